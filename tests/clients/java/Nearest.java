import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * A consumer with a {@code client.rack} that needs records which the leader has in memory no more reads them from the
 * replica in its rack (KIP-392). Usage: {@code Nearest BOOTSTRAP LEADER REPLICA RACK}, where the rack is the replica's.
 */
public class Nearest {
    static final int RECORDS = 100_000, VALUE_BYTES = 1_000;
    static final Duration LONG = Duration.ofSeconds(60);
    static final int TRIES = 3;

    static void check(boolean condition, String what) {
        if (!condition) throw new AssertionError(what);
    }

    public static void main(String[] args) throws Exception {
        String bootstrap = args[0], rack = args[3];
        int leader = Integer.parseInt(args[1]), replica = Integer.parseInt(args[2]);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            // the load of a test may move a leadership, which is then another reason to read there
            for (int attempt = 1; attempt <= TRIES; attempt++) {
                String topic = "nearest-" + attempt;
                var replicas = Map.of(0, List.of(leader, replica));
                admin.createTopics(List.of(new NewTopic(topic, replicas))).all().get();
                write(bootstrap, topic);
                var bytes = read(bootstrap, topic, rack);
                if (leads(admin, topic) != leader) continue;
                long all = (long) RECORDS * VALUE_BYTES, near = bytes.getOrDefault(replica, 0L);
                check(near > all / 2, "of " + all + " bytes, " + near + " came from the replica: " + bytes);
                check(bytes.getOrDefault(leader, 0L) < all / 2, "the leader was read too: " + bytes);
                System.out.println("bytes read by node: " + bytes);
                return;
            }
            check(false, "the leadership did not stay in " + TRIES + " tries");
        }
    }

    static int leads(Admin admin, String topic) throws Exception {
        var described = admin.describeTopics(List.of(topic)).allTopicNames().get();
        return described.get(topic).partitions().get(0).leader().id();
    }

    static void write(String bootstrap, String topic) {
        var settings = Map.<String, Object>of("bootstrap.servers", bootstrap, "linger.ms", 20, "batch.size", 200_000);
        var bytes = new ByteArraySerializer();
        try (var producer = new KafkaProducer<>(settings, new IntegerSerializer(), bytes)) {
            byte[] value = new byte[VALUE_BYTES];
            new Random(7).nextBytes(value);
            for (int key = 0; key < RECORDS; key++) producer.send(new ProducerRecord<>(topic, key, value));
        }
    }

    /** Reads all records in their order, and returns the bytes that came from each node. */
    static Map<Integer, Long> read(String bootstrap, String topic, String rack) {
        // small fetches, so that the first one, which the leader answers, is a small part
        var settings = Map.<String, Object>of("bootstrap.servers", bootstrap, "client.rack", rack,
            "max.partition.fetch.bytes", 200_000, "max.poll.records", 5_000);
        try (var consumer = new KafkaConsumer<>(settings, new IntegerDeserializer(), new ByteArrayDeserializer())) {
            var partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long deadline = System.nanoTime() + LONG.toNanos();
            int next = 0;
            while (next < RECORDS) {
                check(System.nanoTime() < deadline, "only " + next + " records were read");
                for (var record : consumer.poll(Duration.ofMillis(200)))
                    check(record.key() == next++, "record " + record.key() + " is not the next one");
            }
            var bytes = new TreeMap<Integer, Long>();
            consumer.metrics().forEach((name, metric) -> {
                String node = name.tags().getOrDefault("node-id", "");
                // the connections of coordinators have numbers of their own, far from those of nodes
                if (name.name().equals("incoming-byte-total") && node.matches("node-[0-9]{1,4}"))
                    bytes.put(Integer.parseInt(node.substring(5)), ((Double) metric.metricValue()).longValue());
            });
            return bytes;
        }
    }
}
