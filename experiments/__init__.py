"""Uses of the simulator: command line, Python API, studies, tables, plots, certificates, benchmarks."""
