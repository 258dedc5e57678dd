"""Import workflows of the Campaign emulator: files of the SFTP as new or changed records, and what goes wrong."""
