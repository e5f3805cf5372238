"""ONNX Runtime on the processor, from an export at a fixed shape, with every optimisation of its graphs."""

from __future__ import annotations

from benchmarks.competitors.base import Competitor, Job, Loaded, inputs


def prepare(job: Job) -> None:
    """Exports both networks, each with its weights in files of a folder of its own."""
    import torch

    from benchmarks.competitors.exported import parts

    for name, (network, example, names) in parts(job).items():
        folder = job.made(f"{name}-onnx")
        if (folder / "model.onnx").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        with torch.no_grad():
            torch.onnx.export(network, example, str(folder / "part"), input_names=list(names), dynamo=False)
        (folder / "part").rename(folder / "model.onnx")


def load(job: Job) -> Loaded:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    *step, latents = inputs(job).values()
    unet, decoder = (
        onnxruntime.InferenceSession(job.made(f"{name}-onnx") / "model.onnx", options, ["CPUExecutionProvider"])
        for name in ("unet", "decoder")
    )
    return Loaded(
        tasks={"step": _task(unet, step), "decode": _task(decoder, [latents])},
        version=f"onnxruntime {onnxruntime.__version__}",
        setting="fp32, static shape, all graph optimisations",
    )


def _task(session, values):
    given = dict(zip((each.name for each in session.get_inputs()), values, strict=True))
    return lambda: session.run(None, given)


COMPETITOR = Competitor(
    package="onnxruntime",
    install="python3 -m venv ort; ort/bin/pip install torch safetensors numpy onnx onnxruntime; "
    "--python onnxruntime=ort/bin/python",
    dtypes=("fp32",),
    load=load,
    prepare=prepare,
)
