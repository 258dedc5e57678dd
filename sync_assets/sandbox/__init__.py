"""A local Dynamics 365, Campaign, IMS and SFTP for tests and demonstrations; imports none of the clients it tests."""
