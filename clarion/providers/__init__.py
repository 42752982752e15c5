"""Adapters to the providers: one file each; `base` says what each of them owes."""
