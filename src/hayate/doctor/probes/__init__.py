"""Where facts come from: small looks at the machine, each bounded in time."""
