"""Protects how a job's memory is read where a scheduler limits it."""

import pytest
from pte_foundry.bench.cluster_memory import jobs, within

MEBIBYTE = 2**20


def test_memory_of_a_job_is_read_without_files(tmp_path):
    job = tmp_path / "slurm_n1" / "uid_0" / "job_17"
    (job / "step_batch").mkdir(parents=True)
    stat = f"cache {900 * MEBIBYTE}\ntotal_cache 5\ntotal_rss {300 * MEBIBYTE}\n"
    (job / "memory.stat").write_text(f"{stat}total_shmem {20 * MEBIBYTE}\n")
    (job / "memory.limit_in_bytes").write_text(f"{501 * MEBIBYTE}\n")
    (job.with_name("job_18")).mkdir()  # it has just ended
    assert list(jobs(tmp_path)) == [("17", 320, 501)]


@pytest.mark.parametrize(
    ("peak", "limit", "right"), [(500, 499, False), (500, 1000, True), (500, 1001, False)]
)
def test_a_declaration_is_right_within_a_factor_of_two(peak, limit, right):
    assert within(peak, limit) == right
