"""What the commands of `python -m kd_lib` do, each a few lines around the library.

Each takes the parsed options and a `Scale`, and imports what it needs itself: `predict` and `serve` load no TensorFlow,
and a mistake in the options is told before TensorFlow prints its own lines.
Left out: the options themselves (`kd_lib.__main__`).
"""

import contextlib
import shutil

from kd_lib.scale import REPOSITORY, data_choice

OF_THE_NOTEBOOKS = ("signs", "gtsrb")
TEACHER_CARD = {
    "title": "The narrow teacher",
    "purpose": "The two-stream densely connected network that notebook 02 trains at full scale. At laptop scale on "
    "GTSRB it is loaded from here, so that students can be distilled within minutes.",
    "limits": "vehicles, or anything else where a wrong answer costs more than a grade. It knows 43 German signs and "
    "calls every other picture one of them.",
}


def run(options, scale):
    """Run the notebooks as pages, print the table, and with `--write` publish."""
    from kd_lib.walk import walk

    if scale.data not in OF_THE_NOTEBOOKS:
        raise ValueError(
            f"The notebooks are about the 43 German signs: data {' or '.join(OF_THE_NOTEBOOKS)}. Received: "
            f"{scale.data}. To train on it: python -m kd_lib evaluate distilled --data {scale.data}"
        )
    print(scale)
    steps = walk(scale, only=options.only, solutions=options.solutions, write=options.write)
    print()
    _show(scale)
    failed = [step for step in steps if step.failed]
    for step in failed:
        print(f"FAILED {step.name}: {step.failed}")
    if options.write and not options.solutions:
        _publish(scale)
    return 1 if failed else 0


def data(options, scale):
    """Prepare a data set."""
    from kd_lib import datasets

    datasets.prepare(options.data, image_size=options.image_size, crop=options.crop)


def _dataset(scale, options):
    from kd_lib import datasets

    print(scale)
    return datasets.load_dataset(scale.data, limit=scale.limit, crop=options.crop)


def _flags(options):
    """What is unusual about a training, as options in a row's command."""
    from kd_lib.course import WIDTH

    width = f" --width {options.width:g}" if options.width != WIDTH else ""
    flags = (name for name in ("crop", "refit", "committee") if getattr(options, name, False))
    return width + "".join(f" --{name}" for name in flags)


def _mentor(options, scale, dataset):
    """Who teaches: the big network, or the plain students together."""
    from kd_lib import course

    if options.committee:
        return course.committee(dataset, scale, options.width, refit=options.refit)
    return course.teacher(dataset, scale, refit=options.refit)


def train(options, scale):
    """Train the teacher or a plain student, or replay a training."""
    if (options.model is None) == (options.replay is None):
        raise ValueError("Say what to train: teacher, student or --replay FOLDER.")
    dataset = None if options.replay else _dataset(scale, options)
    from kd_lib import course, replay

    if options.replay:
        found = replay.replay(options.replay)
    elif options.model == "teacher":
        if options.seed or options.width != course.WIDTH:
            raise ValueError("--seed and --width are a student's; there is one teacher.")
        found = course.teacher(dataset, scale, refit=options.refit)
    else:
        found = course.plain(dataset, scale, options.seed, options.width, refit=options.refit)
    print(f"{found.name}-{found.key}: validation accuracy {found.history['final_val_accuracy'][-1]:.2%}")


def distill(options, scale):
    """Train a student from the teacher."""
    dataset = _dataset(scale, options)
    from kd_lib import course

    teacher = _mentor(options, scale, dataset)
    found = course.distilled(dataset, scale, options.seed, teacher, width=options.width)
    print(f"{found.name}-{found.key}: validation accuracy {found.history['final_val_accuracy'][-1]:.2%}")


def evaluate(options, scale):
    """Measure trained models on test images, and write their rows."""
    if options.on:
        data_choice(options.on)  # told before anything is prepared
    dataset = _dataset(scale, options)
    from kd_lib import abroad, course, datasets

    common = {"dataset": dataset, "scale": scale}
    unusual = (f" --on {options.on}" if options.on else "") + _flags(options)
    if unusual or options.model == "committee":  # else the notebooks make the same row
        common["command"] = f"python -m kd_lib evaluate {options.model} --data {scale.data}{unusual}"
    if options.on:
        common["test_data"] = datasets.load_dataset(options.on, limit=scale.limit, crop=options.crop)
        if options.on == "btsc" and dataset.name in ("signs", "gtsrb"):
            common["test_data"] = abroad.as_german(common["test_data"])
        if common["test_data"].num_classes != dataset.num_classes:
            classes = f"{dataset.num_classes} and {common['test_data'].num_classes}"
            raise ValueError(f"{dataset.name} and {options.on} must have the same classes; they have {classes}.")
    # A plain student needs no teacher but to be compared with; on foreign images there is nothing to compare.
    alone = options.model == "student" and options.on
    options.committee = options.committee or options.model == "committee"
    teacher = None if alone else _mentor(options, scale, dataset)
    if options.model in ("teacher", "committee"):
        course.report(teacher, model=teacher.name, method="plain", **common)
    else:
        reports = []
        for seed in scale.seeds if options.seed is None else (options.seed,):
            if options.model == "student":
                found = course.plain(dataset, scale, seed, options.width, refit=options.refit)
                method = "plain"
            else:
                found, method = course.distilled(dataset, scale, seed, teacher, options.width), "kd"
            measured = {"model": course.student_name(options.width), "method": method, "teacher": teacher}
            reports.append(course.report(found, **measured, **common))
        if options.model == "distilled" and options.seed is None:
            _compare_with_plain(options, scale, dataset, reports, teacher, common.get("test_data", dataset))
    _show(scale, data=f"{dataset.name} to {options.on}" if options.on else None)


def _compare_with_plain(options, scale, dataset, reports, teacher, tested):
    """Keep the difference of distilled students and plain ones in the results, if the plain ones were measured too."""
    from kd_lib import course, evaluation, results

    label = dataset.name if tested is dataset else f"{dataset.name} to {tested.name}"
    wanted = {"dataset": label, "scale": scale.name, "crop": options.crop, "refit": options.refit, "weights": None}
    wanted["model"] = course.student_name(options.width)
    rows = [row for row in results.load(scale.results)["rows"] if wanted.items() <= row.items()]
    plain = {row["seed"]: row for row in rows if row["method"] == "plain"}
    distilled = [row for row in rows if (row["method"], row["teacher"]) == ("kd", teacher.name)]
    if not set(scale.seeds) <= set(plain):
        return
    runs = [course.plain(dataset, scale, seed, options.width, refit=options.refit) for seed in scale.seeds]
    alone = [evaluation.evaluate(run.model, tested.test) for run in runs]
    results.add_comparison(distilled[-1], plain[scale.seeds[-1]], evaluation.compare(reports, alone), scale.results)


def pretrain(options, scale):
    """Pretrain MobileNetV2's backbone on drawn signs."""
    from kd_lib import pretraining

    print(pretraining.backbone_weights("signs", scale=scale))


def prune(options, scale):
    """Prune a sparse student, repair and measure it."""
    dataset = _dataset(scale, options)
    from kd_lib import course, evaluation

    teacher = _mentor(options, scale, dataset)
    sparse = course.sparse(dataset, scale, options.seed, teacher, width=options.width)
    found = course.pruned(dataset, scale, sparse, options.fraction, teacher)
    command = f"python -m kd_lib prune --data {scale.data} --fraction {options.fraction:g} --seed {options.seed}"
    command += _flags(options)
    names = {
        "model": f"{course.student_name(options.width)}-pruned",
        "method": "kd",
        "teacher": teacher,
        "command": command,
    }
    course.report(found, dataset, scale, **names)
    for run in (sparse, found):
        size = f"{evaluation.count_params(run.model):,} parameters, {evaluation.count_macs(run.model) / 1e6:.1f} M"
        accuracy = run.history["final_val_accuracy"][-1]
        print(f"{run.name}-{run.key}: {size} multiply-adds, validation accuracy {accuracy:.2%}")


def export(options, scale):
    """Make the int8 file and its card."""
    path = options.output or scale.home / "student.tflite"
    if path.suffix != ".tflite":
        raise ValueError(f"--output must end in .tflite. Received: {path}")
    if options.refit:
        raise ValueError(
            "--refit cannot be exported: confidences and the threshold of the file are fitted on validation images, "
            "which such a student has learned by heart."
        )
    dataset = _dataset(scale, options)
    from kd_lib import course, results, shipping

    teacher = _mentor(options, scale, dataset)
    name = course.student_name(options.width)
    command = f"python -m kd_lib export --data {scale.data} --seed {options.seed}{_flags(options)}"
    if options.fraction:
        name, command = f"{name}-pruned", f"{command} --fraction {options.fraction:g}"
        sparse = course.sparse(dataset, scale, options.seed, teacher, width=options.width)
        student = course.pruned(dataset, scale, sparse, options.fraction, teacher)
    else:
        student = course.distilled(dataset, scale, options.seed, teacher, width=options.width)

    def float_row():
        rows = results.load(scale.results)["rows"] if scale.results.exists() else []
        # Not what it says about another data set's test.
        own = {"dataset": dataset.name, "scale": scale.name, "crop": dataset.crop}
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


def predict(options, scale):
    """Name the signs in pictures; return the exit code."""
    from kd_lib.predicting import predict

    return predict(options.paths, model=options.model, top=options.top, as_json=options.json, reject=options.reject)


def serve(options, scale):
    """Answer over HTTP until told to stop."""
    from kd_lib.serving import serve
    from kd_lib.uploads import Limits

    given = {name: getattr(options, f"max_{name}") for name in vars(Limits())}
    limits = Limits(**{name: value for name, value in given.items() if value is not None})
    with contextlib.suppress(KeyboardInterrupt):
        serve(host=options.host, port=options.port, model=options.model, workers=options.workers, limits=limits)


def results(options, scale):
    """Print the table, and with `--publish` publish first."""
    if options.publish:
        _publish(scale)
    _show(scale)


def _show(scale, data=None):
    from kd_lib import results

    data = data or scale.data_name
    found = results.load(scale.results)
    rows = [row for row in found["rows"] if row["scale"] == scale.name and row["dataset"] == data]
    if not rows:
        print(f"No results yet at scale {scale.name} on {data} in {scale.results.parent}.")
        print("Those that come with the project stand in README.md and figures/results.json.")
        return
    print(results.table(rows, found["comparisons"], markdown=False))


def _publish(scale):
    from kd_lib import artifacts, plots, results
    from kd_lib.files import writing

    figures, name = REPOSITORY / "figures", scale.data_name
    results.merge(scale.results, figures / "results.json", scale=scale.name, dataset=name)
    results.render(REPOSITORY / "README.md", figures / "results.json")
    rows = results.load(figures / "results.json")["rows"]
    keys = [row["config"].get("key") for row in rows]
    rows = [row for row in rows if results.COMMITTED.items() <= row.items()]
    if results.COMMITTED.items() <= {"dataset": name, "scale": scale.name, "crop": False}.items():
        for picture in scale.figures.glob("*.png"):
            shutil.copy(picture, figures)
    if any(row["test_errors"] is not None for row in rows):
        plots.use_style()
        plots.save(plots.errors_vs_params(rows), figures / "errors_against_parameters.png")
    for row in rows:
        for folder in artifacts.SHIPPED[1].glob(f"*-{row['config'].get('key')}"):
            with writing(folder / "README.md") as temporary:
                temporary.write_text(results.card(row, **TEACHER_CARD), encoding="utf-8")
    of_the_quiz = [
        {"name": "signs", "limit": scale.quiz.limit, "artifacts": f"student-*-{how}-seed0-*"}
        for how in ("plain", "kd-from-teacher")
    ]
    data = [{"name": name, "limit": scale.limit}, *of_the_quiz]
    held = artifacts.publish(scale.artifacts, data, keys, to=artifacts.SHIPPED[0]) / 1e6
    hours = artifacts.trained_seconds(artifacts.SHIPPED) / 3600
    results.append_bench("every training of the committed run, summed", "h", value=hours, path=figures / "bench.json")
    results.render_bench(REPOSITORY / "README.md", figures / "bench.json")
    print(f"Published {scale.name} on {scale.data}: figures/results.json, README.md, figures/run ({held:.1f} MB).")
