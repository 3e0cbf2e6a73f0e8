"""A SAP gateway that pages and queues deltas as ODP over OData does, beside what the mock-sap package has."""
