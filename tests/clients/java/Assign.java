import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/** The Java clients without groups: an idempotent producer, every codec, assign, seek, times, administration. */
public class Assign {
    static String bootstrap;

    static void check(boolean condition, String what) {
        if (!condition) throw new AssertionError(what);
    }

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic("java", 2, (short) 1))).all().get();
            check(admin.describeCluster().nodes().get().size() == 1, "one node");
            check(admin.listTopics().names().get().contains("java"), "the topic is listed");
            for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) run(codec);
            var partition = new TopicPartition("java-zstd", 0);
            var largest = admin.listOffsets(Map.of(partition, OffsetSpec.maxTimestamp())).partitionResult(partition).get();
            check(largest.offset() == 999, "the largest timestamp is the last record's, not " + largest.offset());
            admin.deleteTopics(List.of("java")).all().get();
        }
    }

    static void run(String codec) throws Exception {
        String topic = "java-" + codec;
        long base = System.currentTimeMillis() - 100_000;
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "compression.type", codec, "linger.ms", 5,
            "max.request.size", 2_000_000);
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            var sent = new ArrayList<java.util.concurrent.Future<RecordMetadata>>();
            for (int i = 0; i < 1000; i++) {
                byte[] value = i % 10 == 0 ? null : new byte[i % 100 == 1 ? 500_000 : i];
                var record = new ProducerRecord<byte[], byte[]>(topic, 0, base + i, ("k" + i).getBytes(), value);
                record.headers().add("h", "1".getBytes()).add("h", null);
                sent.add(producer.send(record));
            }
            for (int i = 0; i < 1000; i++) check(sent.get(i).get().offset() == i, "offset " + i);
        }
        var reading = Map.<String, Object>of("bootstrap.servers", bootstrap, "enable.auto.commit", false);
        try (var consumer = new KafkaConsumer<>(reading, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            var partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            int next = 0;
            long deadline = System.currentTimeMillis() + 60_000;
            while (next < 1000 && System.currentTimeMillis() < deadline) {
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    check(record.offset() == next, "offset " + record.offset() + " instead of " + next);
                    check(new String(record.key()).equals("k" + next), "key");
                    check((record.value() == null) == (next % 10 == 0), "value of " + next);
                    check(record.timestamp() == base + next, "timestamp");
                    check(record.headers().toArray().length == 2, "duplicate headers");
                    next++;
                }
            }
            check(next == 1000, "read " + next);
            var found = consumer.offsetsForTimes(Map.of(partition, base + 500)).get(partition);
            check(found.offset() == 500, "offset for time " + found);
            check(consumer.endOffsets(List.of(partition)).get(partition) == 1000, "end offset");
            consumer.seek(partition, 777);
            var records = List.<ConsumerRecord<byte[], byte[]>>of();
            while (records.isEmpty() && System.currentTimeMillis() < deadline)
                records = consumer.poll(Duration.ofMillis(200)).records(partition);
            check(records.get(0).offset() == 777, "seek");
        }
    }
}
