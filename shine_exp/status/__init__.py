"""`shine-status`: where the runs, sweeps and figures of a results folder stand."""
