"""The mutation check: change one place of a rule at a time, and see whether a test fails. Not part of the tests.

__main__      which rules, which tests, and the run: start reading here
mutants       the changes that are made to a module
equivalents   changes that no test can notice, each with its reason
"""
