"""The attention backends by name; nothing of them is imported before one is chosen."""

from __future__ import annotations

from hayate.registry import Registry

BACKENDS = Registry(
    kind="attention backend",
    places={
        "math": "hayate.runtime.attention.explicit:MathAttention",
        "split": "hayate.runtime.attention.explicit:SplitAttention",
        "sub-quadratic": "hayate.runtime.attention.streaming:SubQuadraticAttention",
        "sdp": "hayate.runtime.attention.sdp:SdpAttention",
        "sdp-no-mem": "hayate.runtime.attention.sdp:SdpNoMemAttention",
        "cudnn": "hayate.runtime.attention.sdp:CudnnAttention",
        "xformers": "hayate.runtime.attention.xformers:XformersAttention",
        "sage": "hayate.runtime.attention.sage:SageAttention",
        "native": "hayate.runtime.native.attention:NativeAttention",
    },
    packages={
        "xformers": "pip install -c constraints.txt -e .[xformers]",
        "sage": "pip install -c constraints.txt -e .[sage]",
    },
)
