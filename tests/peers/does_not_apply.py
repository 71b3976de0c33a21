"""Which of Keras's own optimizer tests do not apply to our classes, and why."""

import fnmatch

WORDS = "The error says the same in our words; see tests/optimizers/test_bad_input.py."
INSIDE = "Checks what the class has inside, not what it does."
ADAFACTOR = (
    "With `relative_step=False` Keras still caps the rate at 1/√t; ours, like the "
    "paper's authors, takes the rate as it is."
)
LAMB = "The paper decays inside the trust ratio; Keras decays before the step."
UNBUILT = "Weights that are set before `build` wait for it; Keras refuses them."
ASSIGNED = (
    "Checks that the step calls `Optimizer.assign`. Ours writes rows by itself on "
    "TensorFlow, as tests/optimizers/test_rows.py counts, and whole variables on JAX."
)

REASONS = {
    "adafactor_test::*::test_correctness_with_golden": ADAFACTOR,
    "adamw_test::*::test_weight_decay_is_none": WORDS,
    "ftrl_test::*::test_invalid_*": WORDS,
    "lamb_test::*::test_weight_decay": LAMB,
    "lion_test::*::test_invalid_beta_1": WORDS,
    "muon_test::*::test_Newton_Schulz": INSIDE,
    "muon_test::*::test_adamw_*": INSIDE,
    "muon_test::*::test_lr_adjust_*": INSIDE,
    "muon_test::*::test_should_use_adamw": INSIDE,
    "nadam_test::*::test_build_with_empty_var_list": INSIDE,
    "optimizer_sparse_test::*::test_sparse_gradients_[!s]*": ASSIGNED,
    "optimizer_sparse_test::*::test_sparse_gradients_sgd*": ASSIGNED,
    "optimizer_test::*::test_set_weights": UNBUILT,
    "sgd_test::*::test_invalid_momentum": WORDS,
}


def why_not(test):
    """Returns why a test, such as "adam_test::AdamTest::test_config", does not apply.

    None if it applies.
    """
    for pattern, reason in REASONS.items():
        if fnmatch.fnmatchcase(test, pattern):
            return reason
    return None
