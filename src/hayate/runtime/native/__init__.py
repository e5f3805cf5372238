"""Kernels in C++ for CPUs with AVX-512, compiled on the user's machine when they are first needed."""
