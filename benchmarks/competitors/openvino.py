"""OpenVINO, converted from PyTorch at a fixed shape: of what was tried on processors the fastest beside Hayate."""

from __future__ import annotations

from benchmarks.competitors.base import Competitor, Job, Loaded, inputs

PRECISIONS = {"bf16": "bf16", "fp32": "f32"}


def prepare(job: Job) -> None:
    """Converts both networks; the file is in fp16, so that packing the weights in fp16 loses nothing."""
    import openvino
    import torch

    from benchmarks.competitors.exported import parts

    for name, (network, example, names) in parts(job).items():
        target = job.made(f"{name}.xml")
        if target.exists():
            continue
        shapes = [(key, list(tensor.shape)) for key, tensor in zip(names, example, strict=True)]
        with torch.no_grad():
            converted = openvino.convert_model(network, example_input=example, input=shapes)
        openvino.save_model(converted, target, compress_to_fp16=True)


def load(job: Job) -> Loaded:
    import openvino

    setting = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[job.dtype],
        "INFERENCE_NUM_THREADS": job.threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    compiled = [core.compile_model(job.made(f"{name}.xml"), "CPU", setting) for name in ("unet", "decoder")]
    unet, decoder = (each.create_infer_request() for each in compiled)
    *step, latents = inputs(job).values()
    used = compiled[0].get_property("INFERENCE_PRECISION_HINT").to_string()
    return Loaded(
        tasks={"step": lambda: unet.infer(step), "decode": lambda: decoder.infer([latents])},
        version=f"openvino {openvino.__version__.partition('-')[0]}",
        setting=f"{used}, static shape",
    )


COMPETITOR = Competitor(
    package="openvino",
    install="python3 -m venv ov; ov/bin/pip install torch safetensors numpy openvino; --python openvino=ov/bin/python",
    dtypes=("bf16", "fp32"),
    load=load,
    prepare=prepare,
)
