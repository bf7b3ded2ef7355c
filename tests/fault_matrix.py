"""
The fault matrix: every fault, every adapter, and what proves that it is survived there, or why it cannot occur.

What came of a cell is never written here: `pytest --fault-table` runs what the cells name, and writes it to
docs/reliability.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

COLUMNS = {
    "local": "TestLocal",
    "process": "TestProcess",
    "docker": "TestDocker",
    "docker, engine: host": "TestDockerHost",
    "e2b": "TestE2B",
    "slurm": "TestSlurm",
}
"""The adapters, each with its class of conformance tests."""
LOCAL, PROCESS, DOCKER, HOST, E2B, SLURM = COLUMNS
WORKERS = (PROCESS, DOCKER, E2B, SLURM)
"""Where a worker is, which speaks over a wire, and whose results come home in an archive."""

NO_WORKER = "there is no worker: the engine is in the controller's process"
NO_WIRE = "there is no worker to speak to, and nothing comes home in an archive"
NO_PLACE = "there is no place beside the controller's own machine"
NO_QUEUE = "nothing is submitted to a scheduler"


@dataclass(frozen=True)
class Fault:
    """
    One row.

    Attributes:
        name: What happens.
        kit: Checks of the conformance kit that show it on every adapter, unless that names a gap.
        tests: Tests beside these, by adapter: `file::test`, with all its parameters, or with `[those]`.
        shared: Tests of what all workers have in common, named in each of their cells. A cell that has nothing else is
            the same code, and was not run on the adapter.
        same: Whose tests these are too, by adapter: the fault meets the same code there, and was run once.
        never: Why it cannot occur, by adapter.
    """

    name: str
    kit: tuple[str, ...] = ()
    tests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    same: Mapping[str, str] = field(default_factory=dict)
    never: Mapping[str, str] = field(default_factory=dict)

    def proofs(self, column: str) -> tuple[str, ...]:
        """Ids of the tests of a cell, or what they begin with; none where it cannot occur."""
        if column in self.never:
            return ()
        if column in self.same:
            return self.proofs(self.same[column])
        end = "-local]" if column == E2B else "]"
        kit = (f"test_conformance.py::{COLUMNS[column]}::test_keeps_its_promise[{name}{end}" for name in self.kit)
        shared = self.shared if column in WORKERS else ()
        return tuple(f"tests/{name}" for name in (*kit, *shared, *self.tests.get(column, ())))

    def is_own(self, column: str) -> bool:
        """Whether some of it is run on that very adapter."""
        return column not in self.same and bool(self.kit or self.tests.get(column))


MATRIX = (
    Fault(
        "timeout, with grandchildren that left the session", ("timeout-leaves-nothing", "timeout-keeps-what-was-done")
    ),
    Fault("cancel, by another thread", ("cancel-reaches-every-run", "cancel-is-no-curse")),
    Fault(
        "Ctrl-C",
        ("interrupt-leaves-a-report",),
        tests={
            E2B: ("test_e2b_faults.py::test_ctrl_c_works_at_once",),
            LOCAL: ("test_engine_stress.py::test_ctrl_c_any_number_of_times",),
        },
    ),
    Fault(
        "SIGTERM of the controller",
        ("terminated-leaves-a-report",),
        tests={
            LOCAL: ("test_cli_stop.py::test_signal_reaches_the_whole_tree_of_a_command",),
            PROCESS: ("test_process_adapter.py::test_a_stopped_command_line_leaves_nothing",),
            SLURM: ("test_slurm_cli.py::test_stopped_by_a_signal",),
        },
    ),
    Fault(
        "SIGKILL of the controller in mid-run, then attach, cancel or gc",
        ("attach-goes-on", "attach-again", "orphan-is-cancelled", "orphan-is-removed"),
    ),
    Fault(
        "SIGKILL of the controller at one point of a run after another, then attach (`engine: host`: at one)",
        tests={
            LOCAL: (
                "test_resume_attacks.py::test_a_crash_at_any_line_of_the_journal",
                "test_attach.py::test_local_resumes",
                "test_attach.py::test_local_is_only_collected_when_its_steps_are_over",
            ),
            PROCESS: (
                "test_attach_everywhere.py::test_every_point_is_tried[process]",
                "test_attach_everywhere.py::test_a_run_that_was_not_written_down[process]",
                "test_attach_everywhere.py::test_a_run_that_never_began[process]",
                "test_attach_everywhere.py::test_a_run_goes_on_without_its_controller[process",
            ),
            DOCKER: (
                "test_attach_everywhere.py::test_every_point_is_tried[docker]",
                "test_attach_everywhere.py::test_a_run_that_was_not_written_down[docker]",
                "test_attach_everywhere.py::test_a_run_that_never_began[docker]",
                "test_attach_everywhere.py::test_a_run_goes_on_without_its_controller[docker",
            ),
            HOST: ("test_attach.py::test_commands_of_a_dead_engine_are_ended",),
            E2B: (
                "test_e2b_attach.py::test_a_run_that_never_began",
                "test_e2b_attach.py::test_a_run_goes_on_without_its_controller",
                "test_e2b_adapter.py::test_a_second_controller_goes_on",
                "test_e2b_adapter.py::test_what_a_dead_controller_left_is_swept",
            ),
            SLURM: (
                "test_slurm_attach.py::test_before_the_job_was_handed_in",
                "test_slurm_attach.py::test_from_then_on",
                "test_slurm_attach.py::test_cancelled_by_another",
            ),
        },
    ),
    Fault(
        "SIGKILL of the worker in mid-step",
        ("killed", "segfault"),
        tests={E2B: ("test_e2b_faults.py::test_a_worker_that_is_killed_is_told",)},
        shared=("test_worker_faults.py::test_a_killed_engine_is_told",),
        never={LOCAL: NO_WORKER, HOST: NO_WORKER},
    ),
    Fault(
        "the place is killed: supervisor, container, sandbox, job",
        tests={
            PROCESS: ("test_process_adapter.py::test_a_dead_supervisor_is_told_with_its_signal",),
            DOCKER: ("test_docker_adapter.py::test_a_container_that_is_killed_is_lost",),
            HOST: ("test_docker_faults.py::test_a_killed_container_of_a_command_is_lost",),
            E2B: (
                "test_e2b_faults.py::test_a_sandbox_that_is_lost_is_told",
                "test_e2b_faults.py::test_a_pause_from_outside_is_told",
            ),
            SLURM: ("test_slurm_job.py::test_scancel_from_outside", "test_slurm_modes.py::test_a_pilot_that_is_lost"),
        },
        never={LOCAL: NO_WORKER},
    ),
    Fault(
        "out of memory",
        tests={
            LOCAL: ("test_command_driver.py::test_out_of_memory_is_told_by_the_kernels_counter",),
            PROCESS: ("test_worker_faults.py::test_out_of_memory_is_told",),
            DOCKER: ("test_docker_adapter.py::test_lack_of_memory_is_told_as_such",),
            HOST: ("test_docker_host.py::test_lack_of_memory_is_told_as_such",),
            SLURM: ("test_slurm_job.py::test_too_much_memory",),
        },
        same={E2B: PROCESS},
    ),
    Fault(
        "daemon or scheduler restarted in mid-run",
        tests={
            DOCKER: ("test_docker_faults.py::test_an_engine_that_is_restarted[docker]",),
            HOST: ("test_docker_faults.py::test_an_engine_that_is_restarted[host]",),
            E2B: (
                "test_e2b_faults.py::test_a_new_edge_in_mid_run_is_survived",
                "test_e2b_faults.py::test_an_end_during_an_outage_is_an_end",
            ),
            SLURM: ("test_slurm_job.py::test_slurms_controller_restarts",),
        },
        never={LOCAL: NO_PLACE, PROCESS: NO_PLACE},
    ),
    Fault(
        "node lost, or out of reach",
        tests={
            DOCKER: (
                "test_docker_adapter.py::test_an_engine_that_goes_away_after_prepare_fails_the_run",
                "test_docker_faults.py::test_what_was_given_up_is_ended_by_the_next_attempt[docker]",
                "test_attach.py::test_an_engine_that_cannot_be_asked",
            ),
            HOST: ("test_docker_faults.py::test_an_engine_that_does_not_come_back",),
            E2B: ("test_e2b_faults.py::test_a_sandbox_that_is_lost_is_told",),
            SLURM: (
                "test_slurm_job.py::test_a_node_is_lost_for_good",
                "test_slurm_restarts.py::test_a_node_is_lost_and_comes_back_late",
            ),
        },
        never={LOCAL: NO_PLACE, PROCESS: NO_PLACE},
    ),
    Fault(
        "connection cut in mid-run, and frames at every byte",
        tests={
            PROCESS: ("test_worker_client.py::test_a_bad_connection_loses_and_doubles_nothing",),
            DOCKER: (
                "test_docker_stream.py::test_streams_are_told_apart_however_they_are_cut",
                "test_docker_sandbox.py::test_a_worker_outlives_its_connection",
                "test_docker_faults.py::test_a_connection_that_is_cut[docker]",
            ),
            HOST: ("test_docker_faults.py::test_a_connection_that_is_cut[host]",),
            E2B: (
                "test_e2b_faults.py::test_ten_cuts_lose_and_double_nothing",
                "test_e2b_faults.py::test_a_stream_that_ends_oddly_is_taken_up",
                "test_frugal_worker.py::test_breaks_lose_nothing",
            ),
            SLURM: (
                "test_file_transport.py::test_a_line_that_is_not_whole_is_waited_for",
                "test_file_transport.py::test_a_host_that_died_in_the_middle_of_a_line",
            ),
        },
        shared=(
            "test_framing.py::test_frames_cut_anywhere_are_whole",
            "test_framing.py::test_an_end_in_the_middle_of_a_frame_is_told",
            "test_framing.py::test_a_frame_that_lost_its_end_costs_only_itself",
        ),
        never={LOCAL: NO_WIRE},
    ),
    Fault(
        "bytes that come one by one",
        tests={
            DOCKER: ("test_docker_faults.py::test_bytes_come_one_by_one[docker]",),
            HOST: ("test_docker_faults.py::test_bytes_come_one_by_one[host]",),
            E2B: ("test_e2b_faults.py::test_bytes_may_come_one_by_one",),
        },
        shared=("test_framing.py::test_one_byte_at_a_time",),
        never={LOCAL: NO_WIRE},
    ),
    Fault(
        "a line of 1 GB on stdout (100 MB unless OSIRIS_FAULTS=full)",
        ("endless-line-takes-no-memory",),
    ),
    Fault(
        "stray output before hello, from Python and from C",
        ("prints-at-import", "prints"),
        tests={E2B: ("test_e2b_faults.py::test_keepalives_and_a_noisy_shell_are_no_events",)},
        shared=("test_worker.py::test_what_is_printed_before_hello_is_a_stray",),
        never={LOCAL: NO_WORKER, HOST: NO_WORKER},
    ),
    Fault("output that is no UTF-8", ("bytes-that-are-no-text",)),
    Fault(
        "disk full at home",
        ("full-disk-here",),
        tests={
            LOCAL: (
                "test_journal.py::test_a_full_disk_leaves_whole_lines_and_no_gap",
                "test_artifacts.py::test_a_full_or_read_only_target_replaces_nothing",
            )
        },
    ),
    Fault(
        "disk full where the steps run",
        ("full-device-is-named",),
        tests={E2B: ("test_e2b_request_faults.py::test_a_full_disk_is_named",)},
        shared=(
            "test_worker_faults.py::test_a_worker_whose_disk_is_full_still_answers",
            "test_file_transport.py::test_a_disk_that_takes_no_answer",
        ),
    ),
    Fault("tampered configuration, manifest or input", ("seal-of-prepared", "seal-of-manifest", "seal-of-input")),
    Fault(
        "tampered package",
        tests={
            PROCESS: ("test_process_adapter.py::test_a_package_that_was_tampered_with",),
            SLURM: ("test_slurm_config.py::test_an_order_tells_nothing_without_its_key",),
        },
        shared=(
            "test_worker.py::test_a_package_that_is_not_what_was_sent_runs_nothing",
            "test_worker.py::test_a_list_that_another_host_made_is_refused",
        ),
        never={LOCAL: NO_WORKER, HOST: NO_WORKER},
    ),
    Fault(
        "tampered artifact or output",
        ("damage-is-not-resumed",),
        tests={LOCAL: ("test_artifacts.py::test_checking_names_every_artifact_that_is_not_as_it_was",)},
        shared=("test_remote_runs.py::test_what_did_not_come_home_is_not_listed",),
    ),
    Fault(
        "archive with `..`, absolute paths, links, devices",
        shared=(
            "test_arrival.py::test_nothing_hostile_is_unpacked",
            "test_arrival.py::test_a_file_in_the_place_of_a_link_replaces_it",
        ),
        never={LOCAL: NO_WIRE, HOST: NO_WIRE},
    ),
    Fault(
        "archive that is a bomb",
        shared=(
            "test_arrival.py::test_bombs_are_refused",
            "test_arrival.py::test_a_file_of_holes_is_as_large_as_it_says",
        ),
        never={LOCAL: NO_WIRE, HOST: NO_WIRE},
    ),
    Fault(
        "artifacts that are empty, binary, many, oddly named",
        ("large-and-many-files", "odd-places"),
        tests={LOCAL: ("test_artifacts.py::test_odd_names_survive_the_journal",)},
    ),
    Fault("an artifact of 5 GB that is mostly holes (200 MB unless OSIRIS_FAULTS=full)", ("sparse-file-is-whole",)),
    Fault("two controllers on one session", ("one-controller", "attach-is-refused")),
    Fault(
        "duplicate submit, lost answer",
        tests={
            PROCESS: ("test_fallback.py::test_a_lost_answer_makes_no_second_place[process]",),
            DOCKER: ("test_fallback.py::test_a_lost_answer_makes_no_second_place[docker]",),
            HOST: ("test_docker_faults.py::test_a_lost_answer_leaves_no_container",),
            E2B: (
                "test_e2b_request_faults.py::test_one_request_that_is_never_answered_is_made_good",
                "test_e2b_request_faults.py::test_one_request_that_fails_is_made_good",
            ),
            SLURM: (
                "test_slurm_job.py::test_a_lost_answer_makes_no_second_job",
                "test_slurm_job.py::test_a_submission_that_was_refused_is_not_a_lost_one",
            ),
        },
        never={LOCAL: NO_PLACE},
    ),
    Fault(
        "empty or failing answer of the scheduler",
        tests={
            SLURM: (
                "test_slurm_job.py::test_an_empty_or_failing_answer_means_nothing",
                "test_slurm_config.py::test_no_answer_is_no_news",
            )
        },
        never={column: NO_QUEUE for column in COLUMNS if column != SLURM},
    ),
    Fault("the controller's clock jumps two days on, and four back", ("clock-jumps",)),
    Fault(
        "secret in a traceback, base64, a URL, a listing of the environment",
        ("environment-listing-is-masked", "secret-in-command", "secret-is-in-no-file", "secret-is-in-no-argv"),
    ),
    Fault(
        "undeclared environment",
        tests={
            LOCAL: (_E := "test_conformance.py::TestLocal::test_keeps_its_promise[environment]",),
            PROCESS: (_E.replace("TestLocal", "TestProcess"),),
            DOCKER: (_E.replace("TestLocal", "TestDocker"),),
            HOST: ("test_docker_host.py::test_only_what_was_declared_is_there",),
            E2B: (_E.replace("TestLocal", "TestE2B").replace("]", "-local]"),),
            SLURM: (
                _E.replace("TestLocal", "TestSlurm"),
                "test_slurm_job.py::test_the_job_sees_nothing_undeclared",
            ),
        },
    ),
    Fault("50 runs at once (18 on `e2b`, as its smallest plan has it)", ("many-at-once", "none-is-mixed-up")),
    Fault(
        "10,000 random manifests, and damaged files of them (150 unless OSIRIS_FAULTS=full)",
        tests={LOCAL: ("test_fuzz.py::test_random_manifests", "test_fuzz.py::test_damaged_manifest_files")},
        same={column: LOCAL for column in COLUMNS if column != LOCAL},
    ),
    Fault(
        "garbage for the readers of frames and archives",
        shared=(
            "test_fuzz.py::test_damaged_frames",
            "test_fuzz.py::test_damaged_archives",
            "test_arrival.py::test_any_bytes_are_refused_or_harmless",
            "test_arrival.py::test_any_header_is_refused_or_harmless",
            "test_framing.py::test_any_bytes_give_the_same_result_wherever_they_are_cut",
        ),
        never={LOCAL: NO_WIRE, HOST: NO_WIRE},
    ),
)
