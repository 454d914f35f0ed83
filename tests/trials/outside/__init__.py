"""The gateway as those see it who share no code with it: official clients, curl, the worker, the
wheel of the client package, the lines of the pages, and a tester of its OpenAPI document.

They start processes and install things, which takes longer than all tests of modules together.
"""
