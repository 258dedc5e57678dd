"""The client of the Campaign SFTP, which holds opt-out files and logs (docs/dev/references/campaign.md 8).

client            list, read, write, move and remove files: start reading here
protocol          paramiko's SFTP client, for names that are not UTF-8; requests with a time limit
ssh, known_hosts  connection, algorithms, host key and sign-in
private_key       the key to sign in with
errors            what can go wrong
"""
