"""One subcommand of `genie` a module: `NAME`, `HELP`, `configure(parser)`, `run(args) -> int`."""
