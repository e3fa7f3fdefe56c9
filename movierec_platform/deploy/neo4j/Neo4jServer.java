import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import org.neo4j.configuration.GraphDatabaseInternalSettings;
import org.neo4j.configuration.GraphDatabaseSettings;
import org.neo4j.configuration.connectors.BoltConnector;
import org.neo4j.configuration.helpers.SocketAddress;
import org.neo4j.dbms.api.DatabaseManagementServiceBuilder;
import org.neo4j.server.security.SecureHasher;
import org.neo4j.server.security.SystemGraphCredential;

/** Neo4j with Bolt on the loopback address, until SIGTERM: FOLDER BOLT_PORT PASSWORD_FILE. */
class Neo4jServer {
    public static void main(String[] arguments) throws Exception {
        var folder = Path.of(arguments[0]);
        var address = new SocketAddress("127.0.0.1", Integer.parseInt(arguments[1]));
        setInitialPassword(folder.resolve("data/dbms/auth.ini"), Files.readString(Path.of(arguments[2])).strip());
        var neo4j = new DatabaseManagementServiceBuilder(folder)
                .setConfig(GraphDatabaseSettings.auth_enabled, true)
                .setConfig(BoltConnector.enabled, true)
                .setConfig(BoltConnector.listen_address, address)
                .setConfig(BoltConnector.advertised_address, address)
                .setConfig(GraphDatabaseSettings.pagecache_memory, 256L << 20)
                .setConfig(GraphDatabaseSettings.transaction_timeout, Duration.ofSeconds(120))
                .setConfig(GraphDatabaseSettings.udc_enabled, false)
                .setConfig(BoltConnector.server_bolt_telemetry_enabled, false)
                .setConfig(GraphDatabaseSettings.allow_file_urls, false)
                // Else it waits ten seconds, after the databases are closed, for clients that might still come.
                .setConfig(GraphDatabaseInternalSettings.netty_server_shutdown_quiet_period, 0)
                .build();
        Runtime.getRuntime().addShutdownHook(new Thread(neo4j::shutdown));
        new CountDownLatch(1).await();
    }

    /** What a new store takes the password of its user from, and one that has users does not read; as neo4j-admin does. */
    private static void setInitialPassword(Path file, String password) throws Exception {
        var credential = SystemGraphCredential.createCredentialForPassword(password.getBytes(), new SecureHasher());
        Files.createDirectories(file.getParent());
        Files.writeString(file, "neo4j:" + credential.serialize() + ":\n");
    }
}
