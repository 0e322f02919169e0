"""Speed, as ratios within one run; `make bench` on a quiet machine."""
