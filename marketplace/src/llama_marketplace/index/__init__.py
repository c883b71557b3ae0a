"""What an index holds: records, the catalogue that search reads, pages for installers."""
