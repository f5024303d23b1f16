"""The command line: `python -m kd_lib COMMAND`. Each command is a few lines around the library."""

import argparse
import contextlib
import sys
from pathlib import Path

from kd_lib.scale import REPOSITORY, Scale

TEACHER_CARD = {
    "title": "The narrow teacher",
    "purpose": "The two-stream densely connected network that notebook 02 trains at full scale. At laptop scale on "
    "GTSRB it is loaded from here, so that students can be distilled within minutes.",
    "limits": "vehicles, or anything else where a wrong answer costs more than a grade. It knows 43 German signs and "
    "calls every other picture one of them.",
}


def main(arguments=None):
    """Run one command; return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return options.command(options, _scale(options)) or 0
    except (ValueError, OSError) as error:
        print(f"kd_lib: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"kd_lib: {error}. Install what the course needs: pip install -r requirements.txt", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nkd_lib: stopped. The same command goes on after the last finished epoch.", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(prog="python -m kd_lib", description="Knowledge distillation on traffic signs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name, command, help_text):
        found = commands.add_parser(name, help=help_text, description=help_text)
        found.set_defaults(command=command)
        found.add_argument("--scale", help="smoke, laptop (default) or full; else KD_SCALE")
        return found

    def add_data(found):
        found.add_argument("--data", help="signs (default), gtsrb, ... or a folder; else KD_DATA")
        return found

    run = add_data(add("run", _run, "run the notebooks in order, as pages under build/, and print the results table"))
    run.add_argument("--only", nargs="+", default=[], metavar="NN", help="numbers of notebooks, such as 03 04")
    run.add_argument("--write", action="store_true", help="store the outputs in the notebooks, publish the result rows")
    data = add("data", _data, "prepare a data set (download, check, decode) and print its counts")
    data.add_argument("data", help="signs, gtsrb, btsc, cifar10, cifar100 or a folder")
    data.add_argument("--image-size", type=int, default=32, help="pixels a side (default 32)")
    data.add_argument("--crop", action="store_true", help="crop to the annotated sign")
    train = add_data(add("train", _train, "train the teacher or a plain student, or load it"))
    train.add_argument("model", nargs="?", choices=["teacher", "student"])
    train.add_argument("--replay", metavar="FOLDER", help="repeat the training that FOLDER/config.json describes")
    distill = add_data(add("distill", _distill, "train a student from the teacher, or load it"))
    for student in (train, distill):
        student.add_argument("--width", type=float, default=0.25, help="of the student (default 0.25)")
        student.add_argument("--seed", type=int, default=0)
    evaluate = add_data(add("evaluate", _evaluate, "measure trained models on the test images and write their rows"))
    evaluate.add_argument("model", choices=["teacher", "student", "distilled"])
    evaluate.add_argument("--width", type=float, default=0.25, help="of the student (default 0.25)")
    evaluate.add_argument("--seed", type=int, help="one seed alone (default: all of the scale)")
    evaluate.add_argument("--on", metavar="DATA", help="take the test images of another data set, such as gtsrb")
    prune = add_data(add("prune", _prune, "take channels from a sparse student and let the teacher repair it"))
    prune.add_argument("--fraction", type=_share, default=0.5, help="share of the channels that goes (default 0.5)")
    prune.add_argument("--width", type=float, default=0.25, help="of the student before (default 0.25)")
    prune.add_argument("--seed", type=int, default=0)
    export = add_data(add("export", _export, "make the int8 file that predict and serve run, with its card"))
    export.add_argument("--width", type=float, default=0.25, help="of the student (default 0.25)")
    export.add_argument("--seed", type=int, default=0)
    export.add_argument("--fraction", type=_share, default=0.0, help="share of the channels to prune first (default 0)")
    export.add_argument("--output", type=Path, help="the .tflite file (default: student.tflite in KD_HOME)")
    predict = commands.add_parser("predict", help="name the signs in pictures", description="Name signs in pictures.")
    predict.set_defaults(command=_predict)
    predict.add_argument("paths", nargs="+", metavar="PATH", help="picture files, folders, patterns such as '*.png'")
    predict.add_argument("--top", type=int, default=1, help="how many classes to name (default 1)")
    predict.add_argument("--json", action="store_true", help="print one JSON list")
    predict.add_argument("--reject", action="store_true", help="say which pictures are perhaps no sign")
    predict.add_argument("--model", metavar="FILE", help=".tflite file (default: the student of this package)")
    serve = commands.add_parser("serve", help="answer over HTTP, with a page to drop pictures on")
    serve.set_defaults(command=_serve)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all (default 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="0 for any free one (default 8000)")
    serve.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    serve.add_argument("--model", metavar="FILE", help=".tflite file (default: the student of this package)")
    serve.add_argument("--max-files", type=int, default=64, help="in a request (default 64)")
    serve.add_argument("--max-request-bytes", type=int, default=64_000_000, help="default 64 million")
    serve.add_argument("--max-file-bytes", type=int, default=16_000_000, help="default 16 million")
    serve.add_argument("--max-pixels", type=int, default=40_000_000, help="of a picture (default 40 million)")
    serve.add_argument("--max-request-pixels", type=int, default=80_000_000, help="default 80 million")
    serve.add_argument("--max-seconds", type=int, default=60, help="until an upload has arrived (default 60)")
    add_data(add("pretrain", _pretrain, "pretrain MobileNetV2's backbone on drawn signs, or load it"))
    shown = add_data(add("results", _results, "print the results table"))
    shown.add_argument("--publish", action="store_true", help="merge this run's rows into figures/ and the README")
    return parser


def _scale(options):
    return Scale.from_env(name=getattr(options, "scale", None), data=getattr(options, "data", None))


def _run(options, scale):
    from kd_lib.walk import walk

    print(scale)
    failed = walk(scale, only=options.only, write=options.write)
    print()
    _show(scale)
    for name, message in failed:
        print(f"FAILED {name}: {message}")
    if options.write:
        _publish(scale)
    return 1 if failed else 0


def _data(options, scale):
    from kd_lib import datasets

    datasets.prepare(options.data, image_size=options.image_size, crop=options.crop)


def _dataset(scale):
    from kd_lib import datasets

    print(scale)
    return datasets.load_dataset(scale.data, limit=scale.limit)


def _train(options, scale):
    from kd_lib import course, replay

    if (options.model is None) == (options.replay is None):
        raise ValueError("Say what to train: teacher, student or --replay FOLDER.")
    if options.replay:
        found = replay.replay(options.replay)
    elif options.model == "teacher":
        found = course.teacher(_dataset(scale), scale)
    else:
        found = course.plain(_dataset(scale), scale, options.seed, width=options.width)
    print(f"{found.name}-{found.key}: validation accuracy {found.history['final_val_accuracy'][-1]:.2%}")


def _distill(options, scale):
    from kd_lib import course

    dataset = _dataset(scale)
    found = course.distilled(dataset, scale, options.seed, course.teacher(dataset, scale), width=options.width)
    print(f"{found.name}-{found.key}: validation accuracy {found.history['final_val_accuracy'][-1]:.2%}")


def _evaluate(options, scale):
    from kd_lib import course, datasets

    dataset = _dataset(scale)
    common = {"dataset": dataset, "scale": scale}
    if options.on:
        common["test_data"] = datasets.load_dataset(options.on, limit=scale.limit)
        if common["test_data"].num_classes != dataset.num_classes:
            classes = f"{dataset.num_classes} and {common['test_data'].num_classes}"
            raise ValueError(f"{dataset.name} and {options.on} must have the same classes; they have {classes}.")
        common["command"] = f"python -m kd_lib evaluate {options.model} --data {scale.data} --on {options.on}"
    # A plain student needs no teacher but to be compared with; on foreign images there is nothing to compare.
    alone = options.model == "student" and options.on
    teacher = None if alone else course.teacher(dataset, scale)
    if options.model == "teacher":
        course.report(teacher, model="teacher", method="plain", **common)
    else:
        for seed in scale.seeds if options.seed is None else (options.seed,):
            if options.model == "student":
                found, method = course.plain(dataset, scale, seed, width=options.width), "plain"
            else:
                found, method = course.distilled(dataset, scale, seed, teacher, width=options.width), "kd"
            course.report(found, model=f"student-{options.width:g}", method=method, teacher=teacher, **common)
    _show(scale, data=f"{dataset.name} to {options.on}" if options.on else None)


def _pretrain(options, scale):
    from kd_lib import pretraining

    print(pretraining.backbone_weights("signs", scale=scale))


def _share(text):
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must lie in [0, 1). Received: {text}")
    return value


def _prune(options, scale):
    from kd_lib import course, evaluation

    dataset = _dataset(scale)
    teacher = course.teacher(dataset, scale)
    sparse = course.sparse(dataset, scale, options.seed, teacher, width=options.width)
    found = course.pruned(dataset, scale, sparse, options.fraction, teacher)
    command = f"python -m kd_lib prune --data {scale.data} --fraction {options.fraction:g} --seed {options.seed}"
    command += f" --width {options.width:g}" if options.width != course.WIDTH else ""
    names = {"model": f"student-{options.width:g}-pruned", "method": "kd", "teacher": teacher, "command": command}
    course.report(found, dataset, scale, **names)
    for run in (sparse, found):
        size = f"{evaluation.count_params(run.model):,} parameters, {evaluation.count_macs(run.model) / 1e6:.1f} M"
        accuracy = run.history["final_val_accuracy"][-1]
        print(f"{run.name}-{run.key}: {size} multiply-adds, validation accuracy {accuracy:.2%}")


def _export(options, scale):
    from kd_lib import course, results, shipping

    path = options.output or scale.home / "student.tflite"
    if path.suffix != ".tflite":
        raise ValueError(f"--output must end in .tflite. Received: {path}")
    dataset = _dataset(scale)
    teacher = course.teacher(dataset, scale)
    name = f"student-{options.width:g}"
    command = f"python -m kd_lib export --data {scale.data} --width {options.width:g} --seed {options.seed}"
    if options.fraction:
        name, command = f"{name}-pruned", f"{command} --fraction {options.fraction:g}"
        sparse = course.sparse(dataset, scale, options.seed, teacher, width=options.width)
        student = course.pruned(dataset, scale, sparse, options.fraction, teacher)
    else:
        student = course.distilled(dataset, scale, options.seed, teacher, width=options.width)

    def float_row():
        rows = results.load(scale.results)["rows"] if scale.results.exists() else []
        own = {"dataset": dataset.name, "scale": scale.name}  # not what it says about another data set's test
        own_rows = (row for row in rows if own.items() <= row.items())
        return next((row for row in own_rows if row["config"].get("key") == student.key), None)

    if float_row() is None:  # its test images are read once: for this row
        course.report(student, dataset, scale, model=name, method="kd", teacher=teacher, command=command)
    run = course.quantized(dataset, scale, student, teacher)
    facts = shipping.ship(run, dataset, path)
    report, numbers = shipping.measure(path, dataset, teacher=teacher.model)
    names = {"model": f"{name}-int8", "method": "kd", "teacher": teacher.name, "bytes": path.stat().st_size}
    row = course.row_of(run, report, dataset, scale, **names, command=f"{command} --scale {scale.name}")
    results.append(row, scale.results)
    shipping.write_card(path, row, numbers, report, dataset.class_names, facts, float_row())
    print(f"{path}: {path.stat().st_size / 1e3:.1f} kB, {row['test_accuracy']:.2%} of the test images are right")


def _predict(options, scale):
    from kd_lib.predicting import predict

    return predict(options.paths, model=options.model, top=options.top, as_json=options.json, reject=options.reject)


def _serve(options, scale):
    from kd_lib.serving import serve
    from kd_lib.uploads import Limits

    limits = Limits(
        files=options.max_files,
        request_bytes=options.max_request_bytes,
        file_bytes=options.max_file_bytes,
        pixels=options.max_pixels,
        request_pixels=options.max_request_pixels,
        seconds=options.max_seconds,
    )
    with contextlib.suppress(KeyboardInterrupt):
        serve(host=options.host, port=options.port, model=options.model, workers=options.workers, limits=limits)


def _results(options, scale):
    if options.publish:
        _publish(scale)
    _show(scale)


def _show(scale, data=None):
    from kd_lib import results

    data = data or Path(scale.data).name
    found = results.load(scale.results)
    rows = [row for row in found["rows"] if row["scale"] == scale.name and row["dataset"] == data]
    if not rows:
        print(f"No results yet at scale {scale.name} on {data}.")
        return
    print(results.table(rows, found["comparisons"], markdown=False))


def _publish(scale):
    from kd_lib import artifacts, plots, results
    from kd_lib.files import writing

    figures, name = REPOSITORY / "figures", Path(scale.data).name
    results.merge(scale.results, figures / "results.json", scale=scale.name, dataset=name)
    results.render(REPOSITORY / "README.md", figures / "results.json")
    rows = results.load(figures / "results.json")["rows"]
    rows = [row for row in rows if results.COMMITTED.items() <= row.items()]
    if any(row["test_errors"] is not None for row in rows):
        plots.save(plots.errors_vs_params(rows), figures / "errors_against_parameters.png")
    for row in rows:
        for folder in artifacts.SHIPPED[1].glob(f"*-{row['config'].get('key')}"):
            with writing(folder / "README.md") as temporary:
                temporary.write_text(results.card(row, **TEACHER_CARD), encoding="utf-8")
    data = [{"name": name, "limit": scale.limit}, {"name": "signs", "limit": scale.quiz.limit}]
    held = artifacts.publish(scale.artifacts, data) / 1e6
    print(f"Published {scale.name} on {scale.data}: figures/results.json, README.md, figures/run ({held:.1f} MB).")


if __name__ == "__main__":
    sys.exit(main())
