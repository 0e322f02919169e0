"""What follows from tables says what made all of them, not the first row alone."""

import pandas as pd

from flatness.records.derived import derived_from
from flatness.records.tables import provenance


def table(experiment, **changed):
    return pd.DataFrame([provenance(experiment, computed_with="AVX2") | changed])


def test_the_inputs_device_execution_and_instruction_set_are_carried():
    made = derived_from(table("a", device="cuda", execution="stacked"), table("b", device="cuda"))
    assert made["instruction_set"] == "AVX2"
    assert made["device"] == "cuda"
    assert made["execution"] == "loop+stacked"


def test_a_mixture_names_each_set_once_also_after_a_second_step():
    first = derived_from(table("a"), table("b", instruction_set="DEFAULT/SSE41"))
    assert first["instruction_set"] == "AVX2+DEFAULT/SSE41"
    second = derived_from(pd.DataFrame([first]), table("c"))
    assert second["instruction_set"] == "AVX2+DEFAULT/SSE41"


def test_the_hash_changes_with_every_input_and_setting():
    hashes = {
        derived_from(*tables, **settings)["experiment"]
        for tables in ([table("a")], [table("a"), table("b")])
        for settings in ({}, {"resamples": 100})
    }
    assert len(hashes) == 4
