"""What is done with the simulator: command line, studies, tables, plots, certificates, benchmarks; byzax from Python."""
