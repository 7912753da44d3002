"""Identifiers of an archive -> what a store may know of them, what stays private, and the ways back."""
