"""The checks, by what they look at; each is a pure function of the facts."""
