"""The vocabulary: schema, declarations, records, hashing, files. Imports nothing heavy."""
