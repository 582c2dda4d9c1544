"""The generic wrapper: runs any program as a task, described by the node's ``job_parameters`` alone.

    "job_parameters": {
        "command": "fast_dp -j {threads} {image}",
        "threads": 12,
        "image": "/dls/i03/data/2026/cm1-1/x_00001.cbf",
        "working_directory": "/dls/i03/data/2026/cm1-1/tmp/zocalo/fast_dp",
        "timeout": 3600,
        "success": {"required_files": ["fast_dp.mtz"], "forbidden_files": ["fast_dp.error"]},
        "files": [{"pattern": "*.mtz", "importance_rank": 1}, {"pattern": "*.log", "file_type": "log"}],
        "results_directory": "/dls/i03/data/2026/cm1-1/processed/fast_dp"
    }

What each key means stands with the fields of `Job`, `Success` and `FilePattern` in `zoctools.command_job`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zoctools.command_job import FilePattern, Job
from zoctools.errors import RecipeError
from zoctools.program import Ended, Output, Program, Unstartable
from zoctools.text import count, one_line
from zoctools.wrapper import Failed, Wrapper

MOST_FILES = 10_000
"""More files than this are not recorded: the patterns are too wide."""


@dataclass(frozen=True, slots=True)
class Result:
    """One file to be recorded, and what kind it is."""

    path: Path
    kind: FilePattern


class CommandWrapper(Wrapper):
    """Runs any program, as the task's job_parameters describe it."""

    def run(self) -> bool:
        """Run the program, judge it, and record its files; a failed program's files are recorded too."""
        try:
            job = Job.of(self.step, self.settings)
            for directory in (job.directory, *(path.parent for path in job.outputs)):
                directory.mkdir(parents=True, exist_ok=True)
            ended, outputs = self._run_program(job)
        except OSError as error:
            raise Failed(f"{one_line(error.filename, 300)}: {error.strerror}") from error
        except (RecipeError, Unstartable) as error:
            raise Failed(error.message) from error
        self.exit_code = ended.exit_code
        faults = list(faults_of(job, ended, outputs))
        self._record(job, list(found(job)))
        if faults:
            raise Failed(f"{job.name}: {', '.join(faults)}")
        return True

    def _run_program(self, job: Job) -> tuple[Ended, list[Output]]:
        outputs: list[Output] = []
        program: Program | None = None
        ended: Ended | None = None
        try:
            outputs = [Output(path, job.success.texts) for path in job.outputs]
            self.log.info("running %s in %s", one_line(" ".join(job.words), 1000), one_line(job.directory, 300))
            with self.undisturbed():
                program = Program(
                    job.words,
                    directory=job.directory,
                    environment=job.environment,
                    output=outputs[0],
                    errors=outputs[1] if len(outputs) > 1 else None,
                    hurry=lambda: self.in_a_hurry,
                )
            ended = program.wait(job.timeout)
            return ended, outputs
        finally:
            if program is not None:
                self._report(job, ended or program.end(), outputs)
            for output in outputs:
                output.close()

    def _report(self, job: Job, ended: Ended, outputs: list[Output]) -> None:
        say = self.log.info if ended.status in job.success.exit_codes else self.log.error
        say("%s: %s", job.name, ended)
        for output in outputs:
            if output.tail():
                say("the end of %s:\n%s", one_line(output.path, 300), output.tail())
            if output.trouble:
                self.log.warning("%s", output.trouble)

    def _record(self, job: Job, results: list[Result]) -> None:
        if len(results) > MOST_FILES:
            raise Failed(f"{job.name}: {count(len(results), 'file')} to record; more than {MOST_FILES} are a mistake")
        recorded = []
        for result in results:
            path = kept(result.path, job) if job.results_directory else result.path
            self.record_file(path, result.kind.type_of(path), result.kind.importance_rank)
            recorded.append(path)
        if recorded:
            self.record_all_files(recorded)


def faults_of(job: Job, ended: Ended, outputs: list[Output]) -> Iterator[str]:
    """Yield why a run was no success, each reason in a few words; nothing when it was one."""
    rule = job.success
    if ended.status not in rule.exit_codes:
        yield str(ended)
    for name in rule.required_files:
        if not (job.directory / name).is_file():
            yield f"file {one_line(name, 200)} is missing"
    for name in rule.forbidden_files:
        if (job.directory / name).exists():
            yield f"file {one_line(name, 200)} exists"
    seen = {text for output in outputs for text in output.seen}
    for text in rule.required_texts:
        if text not in seen:
            yield f"its output does not say {one_line(text, 100)!r}"
    for text in rule.forbidden_texts:
        if text in seen:
            yield f"its output says {one_line(text, 100)!r}"


def found(job: Job) -> Iterator[Result]:
    """Yield the files that match the job's patterns, each once, in the order of the patterns and then of the names."""
    seen: set[Path] = set()
    for kind in job.files:
        try:
            matches = sorted(job.directory.glob(kind.pattern))
        except (ValueError, RecursionError) as error:
            raise Failed(f"{one_line(kind.pattern, 200)!r} is no pattern of files: {error}") from None
        for path in matches:
            if path not in seen and path.is_file():
                seen.add(path)
                yield Result(path, kind)


def kept(path: Path, job: Job) -> Path:
    """Copy a file to the same place within the results directory, whole or not at all; returns where it is."""
    assert job.results_directory is not None
    target = job.results_directory / path.relative_to(job.directory)
    unfinished = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, unfinished)
        os.replace(unfinished, target)  # noqa: PTH105
    except OSError as error:
        raise Failed(f"cannot copy {one_line(path, 300)} to {one_line(target, 300)}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
    return target
