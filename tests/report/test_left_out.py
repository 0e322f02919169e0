import made_up_results
from flatness.report.left_out import LeftOut, left_out_models


def test_an_empty_run_has_none(tmp_path):
    assert left_out_models(tmp_path) == []


def test_models_that_were_all_used_are_none(tmp_path):
    made_up_results.pool(tmp_path)
    assert left_out_models(tmp_path) == []


def test_every_model_left_out_is_named_once_with_its_reason(tmp_path):
    made_up_results.pool(tmp_path, lost=(3, 9))
    made_up_results.replications(tmp_path, lost=(3, 9, 71))  # the pool itself among them
    made_up_results.audit(tmp_path, lost=(0,))
    made_up_results.family(tmp_path, "vgg11")  # seed 3 diverged, at two checkpoints
    made_up_results.transformers(tmp_path)
    assert left_out_models(tmp_path) == [
        LeftOut(
            "epfl", "fcnn (written, written)", "the loss became nan in epoch 2",
            ("seed 3", "seed 9", "seed 71"),
        ),
        LeftOut(
            "epfl", "fcnn (written, released)", "the loss became nan in epoch 2", ("seed 0",)
        ),
        LeftOut(
            "chen", "vgg11 lr0.2_batch20", "training loss not finite by step 400", ("seed 3",)
        ),
        LeftOut(
            "transformers", "transformers, exact estimators", "untrained: 12%", ("levit_b",)
        ),
    ]  # fmt: skip


def test_across_papers_only_what_could_not_be_measured_is_left_out(tmp_path):
    """Diverged models are named by their own study; an undefined measure leaves no model out."""
    made_up_results.cross(tmp_path)
    assert left_out_models(tmp_path) == [
        LeftOut("cross", "vgg11 lr0.2_batch20, worst_case_strong", "overflow", ("seed 1",))
    ]
