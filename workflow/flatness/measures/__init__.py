"""The quantities that both papers define, for any network and any batch, and the bounds on them.

`measure` computes all quantities of one network at once, from one backward pass; `quantities`
describes them. `worst_case_ball` computes worst-case sharpness in boxes and balls (with the ascents
of `balls`), and `certified` brackets it for small networks. `worst_case` is the worst-case
sharpness of the studies (with the ascents of `ascent`), `average_case` the sharpness under random
perturbations. `loss_hessian` has the Hessian and the Gauss-Newton matrix of any loss (`losses`:
their conventions; `lanczos`: eigenvalues and spectral density); `hessian` has the trace and the
largest eigenvalue for the studies' squared error. `bounds` has every inequality, theorem or
heuristic. Each number is an `estimates.Estimate`: a value with its standard error. Modules that
begin with an underscore are implementation. Nothing here depends on a study.
"""
