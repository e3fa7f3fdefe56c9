"""Where there is no JDK or no Maven, the header of the run says so, and what needs a Neo4j is not collected."""

from movierec_tests.both_graphs import why_no_neo4j

collect_ignore = ["test_neo4j_plans.py", "test_neo4j_server.py"] if why_no_neo4j() else []
