"""What to watch: reads YAML, refuses mistakes with their place, and hands on a frozen `config.plan.Plan`."""
