"""Search algorithms: each proposes generations of subnets and hears what came of them; it evaluates nothing itself."""
