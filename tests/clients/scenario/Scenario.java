import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.*;

/** The scenario with the Java clients, by the part of their API that exists in 2.1 and in 4.4. */
public class Scenario {
    static final int COUNT = 120, GROUP_COUNT = 2000, MORE = 100, LARGEST = 1_048_516;
    static final int[] SIZES = {1, 10, 100, 1000, 10_000, 300_000};
    static final long BASE = System.currentTimeMillis() - 100_000;
    static final long DEADLINE = System.currentTimeMillis() + 90_000;
    static String bootstrap, name;

    static void check(boolean condition, String what) {
        if (!condition) throw new AssertionError(what);
    }

    static boolean isAlone() {
        return !bootstrap.contains(",");
    }

    static void inTime(String what) {
        check(System.currentTimeMillis() < DEADLINE, what);
    }

    static byte[] pattern(int i, int size) {
        var bytes = new byte[size];
        for (int j = 0; j < size; j++) bytes[j] = (byte) ((7 * i + j) % 251);
        return bytes;
    }

    static byte[] key(int i) {
        return i % 3 == 0 ? null : ("k" + i).getBytes();
    }

    static byte[] value(int i) {
        return i % 10 == 0 ? null : pattern(i, SIZES[i % SIZES.length]);
    }

    /** The settings of a client, which is on TLS if there is a directory of keys and certificates. */
    static Map<String, Object> settings(Map<String, Object> more) {
        var settings = new HashMap<String, Object>(more);
        settings.put("bootstrap.servers", bootstrap);
        String dir = System.getenv("SCENARIO_TLS");
        if (dir != null) {
            settings.putAll(Map.of("security.protocol", "SSL", "ssl.truststore.type", "PEM", "ssl.keystore.type", "PEM",
                "ssl.truststore.location", dir + "/ca.crt", "ssl.keystore.location", dir + "/client.pem"));
        }
        return settings;
    }

    static KafkaProducer<byte[], byte[]> producer(String codec) {
        return new KafkaProducer<>(settings(Map.of("compression.type", codec, "linger.ms", 5,
            "enable.idempotence", true, "max.request.size", 2_000_000)), new ByteArraySerializer(),
            new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> more) {
        var settings = settings(Map.of("enable.auto.commit", false, "auto.offset.reset", "earliest",
            "fetch.max.wait.ms", 100));
        settings.putAll(more);
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        name = args[1];
        try (AdminClient admin = AdminClient.create(settings(Map.of()))) {
            administration(admin);
            for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) codec(codec);
            largest();
            group(admin);
        }
        System.out.println("the scenario holds");
    }

    static void administration(AdminClient admin) throws Exception {
        String topic = name + "-admin";
        var made = List.of(new NewTopic(topic, 3, (short) 1).configs(Map.of("retention.ms", "1234567")));
        admin.createTopics(made).all().get();
        try {
            admin.createTopics(made).all().get();
            throw new AssertionError("the topic is made twice");
        } catch (ExecutionException e) {
            check(e.getCause() instanceof TopicExistsException, "it exists: " + e.getCause());
        }
        while (!admin.listTopics().names().get().contains(topic)) inTime("the topic is listed");
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        check(config.get("retention.ms").value().equals("1234567"), "retention.ms: " + config.get("retention.ms"));
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
        try (var consumer = consumer(Map.of())) {
            while (consumer.partitionsFor(topic).size() != 5) inTime("five partitions");
        }
        admin.deleteTopics(List.of(topic)).all().get();
        while (admin.listTopics().names().get().contains(topic)) inTime("the topic is gone");
        int nodes = admin.describeCluster().nodes().get().size();
        check(nodes >= 1 && nodes <= bootstrap.split(",").length, nodes + " nodes");
    }

    static void codec(String codec) throws Exception {
        var partition = new TopicPartition(name + "-" + codec, 0);
        try (var producer = producer(codec)) {
            var sent = new ArrayList<Future<RecordMetadata>>();
            for (int i = 0; i < COUNT; i++) {
                var record = new ProducerRecord<>(partition.topic(), 0, BASE + i, key(i), value(i));
                record.headers().add("a", "1".getBytes()).add("a", new byte[] {(byte) 0xff}).add("n", null);
                sent.add(producer.send(record));
            }
            for (int i = 0; i < COUNT; i++) check(sent.get(i).get().offset() == i, "offset " + i);
        }
        try (var consumer = consumer(Map.of())) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            for (int next = 0; next < COUNT; inTime(codec)) {
                for (var record : consumer.poll(Duration.ofMillis(200))) same(record, next++);
            }
            var found = consumer.offsetsForTimes(Map.of(partition, BASE + 50)).get(partition);
            check(found.offset() == 50 && found.timestamp() == BASE + 50, "offset for time " + found);
            check(consumer.endOffsets(List.of(partition)).get(partition) == COUNT, "end");
            consumer.seek(partition, 77);
            var records = List.<ConsumerRecord<byte[], byte[]>>of();
            for (; records.isEmpty(); inTime("seek"))
                records = consumer.poll(Duration.ofMillis(200)).records(partition);
            same(records.get(0), 77);
        }
    }

    static void same(ConsumerRecord<byte[], byte[]> record, int i) {
        check(record.offset() == i, "offset " + record.offset() + " instead of " + i);
        check(Arrays.equals(record.key(), key(i)), "key of " + i);
        check(Arrays.equals(record.value(), value(i)), "value of " + i);
        check(record.timestamp() == BASE + i, "timestamp of " + i);
        var headers = record.headers().toArray();
        check(headers.length == 3 && headers[0].key().equals("a") && headers[2].key().equals("n"), "headers of " + i);
        check(Arrays.equals(headers[0].value(), "1".getBytes()), "first header of " + i);
        check(headers[1].value()[0] == (byte) 0xff && headers[2].value() == null, "other headers of " + i);
    }

    static void largest() throws Exception {
        try (var producer = producer("none")) {
            producer.send(new ProducerRecord<>(name + "-largest", pattern(0, LARGEST))).get();
            producer.send(new ProducerRecord<>(name + "-largest", pattern(0, LARGEST + 1))).get();
            throw new AssertionError("more than the largest is taken");
        } catch (ExecutionException e) {
            check(e.getCause() instanceof RecordTooLargeException, "too large: " + e.getCause());
        }
    }

    static void fill(int from, int to) throws Exception {
        try (var producer = producer("lz4")) {
            for (int i = from; i < to; i++)
                producer.send(new ProducerRecord<>(name + "-group", ("k" + i % 97).getBytes(), ("" + i).getBytes()));
        }
    }

    static void poll(KafkaConsumer<byte[], byte[]> member, Set<Integer> seen) {
        for (var record : member.poll(Duration.ofMillis(50))) seen.add(Integer.parseInt(new String(record.value())));
    }

    static void group(AdminClient admin) throws Exception {
        admin.createTopics(List.of(new NewTopic(name + "-group", 4, (short) 1))).all().get();
        fill(0, GROUP_COUNT);
        var settings = Map.<String, Object>of("group.id", name, "session.timeout.ms", 6000, "heartbeat.interval.ms", 300);
        var seen = new HashSet<Integer>();
        try (var first = consumer(settings); var second = consumer(settings)) {
            for (var member : List.of(first, second)) member.subscribe(List.of(name + "-group"));
            for (; first.assignment().size() != 2 || second.assignment().size() != 2 || seen.size() < GROUP_COUNT;
                    inTime("two members share"))
                for (var member : List.of(first, second)) poll(member, seen);
            check(seen.size() == GROUP_COUNT, "all records between them");
            for (var member : List.of(first, second)) member.commitSync();
            var described = admin.describeConsumerGroups(List.of(name)).describedGroups().get(name).get();
            check(described.members().size() == 2 || !isAlone(), "two members");
            first.close();
            seen.clear();
            for (; second.assignment().size() != 4; inTime("the other takes over")) poll(second, seen);
            fill(GROUP_COUNT, GROUP_COUNT + MORE);
            for (; seen.stream().filter(i -> i >= GROUP_COUNT).count() < MORE; inTime("the other reads on"))
                poll(second, seen);
            check(Collections.min(seen) == GROUP_COUNT || !isAlone(), "what was committed is not read again");
            second.commitSync();
        }
        var offsets = admin.listConsumerGroupOffsets(name).partitionsToOffsetAndMetadata().get();
        long sum = offsets.values().stream().mapToLong(OffsetAndMetadata::offset).sum();
        check(sum == GROUP_COUNT + MORE, "committed " + sum);
        admin.deleteConsumerGroups(List.of(name)).all().get();
    }
}
