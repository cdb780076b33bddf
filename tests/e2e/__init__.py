"""The whole product on one machine: real Terraform, the same artefacts as on AWS."""
