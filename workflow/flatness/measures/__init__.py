"""What both papers define, of any network and any batch: quantities and the bounds between them.

`measure` takes all quantities of one network at once, from one backward pass; `quantities` says
what each is. `worst_case_ball` is worst-case sharpness in boxes and balls (its ascents: `balls`),
`certified` a bracket around it for small networks, `worst_case` what the studies measure of it (its
maximisation is `ascent`), `average_case` the sharpness under random perturbations, `loss_hessian`
the Hessian and the Gauss-Newton matrix of any loss (`losses`: their conventions; `lanczos`:
eigenvalues and spectral density), `hessian` the trace and the largest eigenvalue for the studies'
squared error, `bounds` every inequality, theorem or heuristic. Each number is an
`estimates.Estimate`: a value with its standard error. Modules that begin with an underscore are
how, not what. No study is known here.
"""
