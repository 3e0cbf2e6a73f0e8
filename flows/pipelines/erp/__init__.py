"""The same business objects out of SAP, Oracle E-Business Suite and Dynamics: tables of one shape, one flow for all."""
