"""docs/extensions.md: how an extension is written; its tables come from the code."""

from __future__ import annotations

import sys

from hayate.extensions.control import KINDS
from hayate.extensions.discovery import ENTRY_POINTS, built_in
from hayate.extensions.kinds import HOOKS


def extensions_page() -> str:
    """docs/extensions.md."""
    own = "\n".join(
        f"| `{each.manifest.name}` | {each.manifest.summary} | {', '.join(each.manifest.hooks.get('scripts', ()))} |"
        for each in built_in()
        if each.manifest is not None
    )
    kinds = ", ".join(f"`{kind}`" for kind in KINDS)
    return (
        _GUIDE.replace("@HOOKS@", _hooks())
        .replace("@OWN@", own)
        .replace("@KINDS@", kinds)
        .replace("@GROUP@", ENTRY_POINTS)
    )


def _hooks() -> str:
    rows = "\n".join(
        f"| `{name}` | {kind.doc} | {kind.is_a} | {'who names it' if kind.is_chosen else 'every job'} |"
        for name, kind in HOOKS.items()
    )
    return f"| Hook | What it does | What its object is | Acts for |\n|---|---|---|---|\n{rows}"


_GUIDE = """# Extensions

Written by `scripts/docs` from `src/hayate/extensions/`.

An extension is a folder with an `extension.toml`. That file says everything that has to be known before a line of its
code runs: its name, what it adds, and the fields that the page shows. So the list of extensions, the page and the
checks of a job import nothing, and a start takes as long as without extensions.

```
hayate extensions                       which there are, whether they act, what they took when they were last in use
hayate extensions install FOLDER        or a wheel; once, and never again at a start
hayate extensions remove NAME           with the packages that came with it, but for what something else needs
hayate extensions disable NAME          it is not even imported, from the next job on; also on the page
hayate generate "…" --extension detailer --extension detailer.denoising=0.5
```

## The manifest

```toml
name = "detailer"                       # the folder's name: small letters, digits, - and _
version = "1.0.0"
summary = "Finds things in finished pictures, and paints each of them anew, larger"
hayate = ">=0.1, <1"                    # the versions that it is for; may be left out
requires = ["einops>=0.8"]              # packages, as pip reads them

[hooks.pictures]
detailer = "detailer:detail"            # a name, and "module:object" in the folder

[[controls]]
key = "denoising"
kind = "slider"
default = 0.4
low = 0.0
high = 1.0
step = 0.01
label = { en = "Denoising strength", ja = "ノイズ除去の強さ" }
help = { en = "How much of each thing is made anew.", ja = "見つけたものをどの程度描き直すか。" }
```

An unknown key, an unknown hook and a place that is no place are one line that names them; the extension is then shown
as unusable, and nothing else suffers.

The folder is a package of its own: `from .region import Region` finds `region.py` beside the module, and no other
extension's. Nothing is put on the path of imports.

## Hooks

@HOOKS@

Those that are chosen have the name in the manifest: `--sampler "Euler twice"`, `--x "My axis=1-3"`, a script in the
page's list. The objects and what they are told are typed in `hayate.extensions.hooks`; the shapes are in their
docstrings.

`hayate tune` tries the attention backends of extensions beside ours, in its own processes, and holds their pictures to
the same reference. A profile that one has won is stale when its extension has another version; where that is off or
gone, the plan says so and is the default one. A compiled step has PyTorch's attention, whichever backend is chosen.

The others act on every job, if the extension has no controls. With controls, it acts on the jobs that name it, and gets
`call.values`: what the job says, else the defaults. A job says it as `request.extensions`:

```json
{"kind": "generate", "body": {"request": {"prompt": "a face", "extensions": {"detailer": {"denoising": 0.5}}}}}
```

A1111's API takes the same as `"alwayson_scripts": {"detailer": {"args": [{"denoising": 0.5}]}}`.

A hook may refuse a job in words, by raising `hayate.errors.UsageError`: the job fails with that line. `call.note` says
something that is no failure. Whoever draws random numbers draws them from `call.seed`, so that a picture can be made
again.

## Controls

Declared, not programmed: the page draws them in its own style, in both languages, for the keyboard and for screen
readers, and checks them before a job is queued. Kinds: @KINDS@. A number with `step = 1` is a whole number; a `choice`
has `choices`.

## Scripts

A script is one request that stands for many. Its fields are the controls that name it; the page shows them while the
script is chosen, and a job is checked by them before anything is imported:

```toml
needs_picture = []                      # the scripts that need one to start from; txt2img does not list them

[hooks.scripts]
"many seeds" = "seeds:ManySeeds"

[[controls]]
script = "many seeds"
key = "count"
kind = "slider"
default = 4
low = 1
high = 100
step = 1
label = { en = "Seeds", ja = "シードの数" }
```

```python
@dataclass(frozen=True, slots=True, kw_only=True)
class ManySeeds:
    count: int = 4  # a field for each control; others are for nobody but this class

    def check(self, request, asked, settings):
        if request.seed in (None, -1):
            raise UsageError("the first seed is not said", hint="give a seed")

    def requests(self, request, asked):
        return [(replace(request, seed=request.seed + number), asked) for number in range(self.count)]
```

A job says `"script": {"name": "many seeds", "count": 8}`. A1111's API takes the name in any case as `script_name`, and
as `script_args` either the values in the controls' order or one object of them; `/sdapi/v1/scripts` and
`/sdapi/v1/script-info` list it. Both methods are called in the worker, one after the other; at most 1000 requests are
made of one.

## What an extension can't do to the rest

- **It raises, at import or later.** It is left out until the next start; the picture is made without it, and the notes
  of the job, `hayate extensions` and the page say which line of it failed. Only what was asked for by its name (a
  sampler, a schedule, an axis, a script) fails the job, for nothing else may take its place.
- **It hangs at import.** After `extension_import_s` (15 s) it is left out, and its thread is ended as soon as it comes
  back to Python. Nobody waited for it but the job that it would have acted on, and no later start does: it is switched
  off, and named. `hayate extensions enable NAME` tries it again.
- **It hangs later.** It holds up its job until that is cancelled. A hook that goes on for `extension_stop_s` (5 s)
  after that is ended by an exception that `except Exception` does not catch; where Python does not come to a next line,
  as in `time.sleep` or a library's loop, the worker is ended after the same time once more, and started anew. The
  extension is left out and named. A hook that takes its time calls `call.check()` between its steps: it raises where
  the job was cancelled, and nobody has to be ended. While a hook has called something of ours (`call.paint`, the engine
  that it was given), it is not at work, however long that takes.
- **It prints.** Its output goes to `extensions/NAME.log` in the data folder. What a C library writes past Python, and
  what threads of its own write, goes where such output goes otherwise.
- **It wants another torch.** `install` asks pip what it would do before anything is touched, and refuses where that
  would change a package that is here. Packages come as wheels only: a source distribution runs code to say what it
  needs. A folder that was put there by hand, and needs what is not installed, is named and not imported.
  `remove` takes away what came with the extension, unless another extension or package needs it, somebody has
  changed it, or Hayate pins it, as it does torch; each is said with its reason. `--keep-packages` leaves them all.
- **It gives something else than it promised**: latents that are not finite or of another shape, a picture of floats.
  That counts as a failure.
- **It changes pictures.** Then it is named: the infotext has `Extensions: detailer 1.0.0`, and Hayate's own record what
  was said to it, so that the picture can be made again from its file.

Extensions are programs that run with your rights. Install those that you would run otherwise.

## As a package

A wheel has an entry point of the group `@GROUP@`, whose name is the extension's and whose value is its topmost package;
`extension.toml` lies in that package, and the places in it are relative to it.

```toml
[project.entry-points."@GROUP@"]
detailer = "hayate_detailer"
```

## A worked example

[examples/detailer](../examples/detailer) finds things in finished pictures and paints each of them anew, by the
pipeline's own img2img of what is masked:

```
hayate extensions install examples/detailer
hayate generate "a red sun over purple mountains, sea" --extension detailer.denoising=0.5
```

Its detectors are files of its folder `detectors/`, each with a function `detect(picture)` that gives masks. The one
that is there finds patches of strong colour, and needs no model; one for faces has the same form:

```python
from ..region import Region


def detect(picture):  # [H, W, 3] uint8
    return [Region(mask=mask) for mask in my_model(picture)]
```

## What is built in

The scripts are extensions by the same hook:

| Name | What it does | Script |
|---|---|---|
@OWN@

`--disable-extra-extensions` leaves out all others, `--disable-all-extensions` these too. Extensions for A1111
(`scripts/`, `install.py`, `javascript/`) are recognised in the folder and named; their code is not run.
"""


if __name__ == "__main__":
    sys.stdout.write(extensions_page())
