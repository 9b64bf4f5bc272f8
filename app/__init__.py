"""What a person touches: the `genie` command, films and reports."""
