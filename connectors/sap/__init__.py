"""SAP systems as sources: OData services and IDocs over HTTP, tables by RFC."""
