import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.serialization.*;

/** The Java consumer in classic groups, eager and cooperative; unsupported features are refused at once and clearly. */
public class Group {
    static final int COUNT = 3000;
    static String bootstrap;

    static void check(boolean condition, String what) {
        if (!condition) throw new AssertionError(what);
    }

    static KafkaConsumer<String, String> member(String group, Map<String, Object> more) {
        var settings = new HashMap<String, Object>(Map.of("bootstrap.servers", bootstrap, "group.id", group,
            "auto.offset.reset", "earliest", "enable.auto.commit", false, "session.timeout.ms", 6000,
            "heartbeat.interval.ms", 500, "fetch.max.wait.ms", 100));
        settings.putAll(more);
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic("grouped", 6, (short) 1))).all().get();
            try (var producer = new KafkaProducer<>(Map.<String, Object>of("bootstrap.servers", bootstrap),
                    new StringSerializer(), new StringSerializer())) {
                for (int i = 0; i < COUNT; i++) producer.send(new ProducerRecord<>("grouped", "k" + i % 113, "" + i));
            }
            share(admin, "eager", "org.apache.kafka.clients.consumer.RangeAssignor");
            share(admin, "cooperative", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
            administration(admin);
            largestTimestamp(admin);
        }
        refused();
    }

    static void share(Admin admin, String group, String assignor) throws Exception {
        var more = Map.<String, Object>of("partition.assignment.strategy", assignor);
        var seen = new HashSet<String>();
        try (var second = member(group, more)) {
            try (var first = member(group, more)) {
                first.subscribe(List.of("grouped"));
                second.subscribe(List.of("grouped"));
                long deadline = System.currentTimeMillis() + 30_000;
                while (first.assignment().size() != 3 || second.assignment().size() != 3 || seen.size() < COUNT) {
                    check(System.currentTimeMillis() < deadline, group + ": " + first.assignment() + second.assignment()
                        + seen.size());
                    for (var member : List.of(first, second)) {
                        for (var record : member.poll(Duration.ofMillis(50))) seen.add(record.value());
                        try {
                            member.commitSync();
                        } catch (CommitFailedException | org.apache.kafka.common.errors.RebalanceInProgressException e) {
                            // The next owner of the partitions reads their records again.
                        }
                    }
                }
                var described = admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get();
                check(described.members().size() == 2, "two members");
            }
            long deadline = System.currentTimeMillis() + 30_000;
            while (second.assignment().size() != 6) {
                check(System.currentTimeMillis() < deadline, group + ": the other takes over " + second.assignment());
                check(second.poll(Duration.ofMillis(50)).isEmpty(), "nothing is read twice after a commit");
            }
        }
    }

    static void administration(Admin admin) throws Exception {
        var offsets = admin.listConsumerGroupOffsets("eager").partitionsToOffsetAndMetadata().get();
        long sum = offsets.values().stream().mapToLong(OffsetAndMetadata::offset).sum();
        check(sum == COUNT, "committed " + sum);
        var partition = new TopicPartition("grouped", 3);
        admin.alterConsumerGroupOffsets("eager", Map.of(partition, new OffsetAndMetadata(1, Optional.of(0), "m"))).all().get();
        var changed = admin.listConsumerGroupOffsets("eager").partitionsToOffsetAndMetadata().get().get(partition);
        check(changed.offset() == 1 && changed.metadata().equals("m"), "altered " + changed);
        admin.deleteConsumerGroupOffsets("eager", Set.of(partition)).all().get();
        var left = admin.listConsumerGroupOffsets("eager").partitionsToOffsetAndMetadata().get();
        check(left.size() == 5 && !left.containsKey(partition), "deleted " + left);
        admin.deleteConsumerGroups(List.of("eager", "cooperative")).all().get();
        check(admin.listGroups().all().get().isEmpty(), "no groups are left");
        check(admin.describeTopics(List.of("__consumer_offsets")).allTopicNames().get().get("__consumer_offsets")
            .isInternal(), "internal");
        check(!admin.listTopics().names().get().contains("__consumer_offsets"), "internal topics are hidden");
    }

    static void largestTimestamp(Admin admin) throws Exception {
        var partition = new TopicPartition("times", 0);
        long now = System.currentTimeMillis();
        try (var producer = new KafkaProducer<>(Map.<String, Object>of("bootstrap.servers", bootstrap),
                new StringSerializer(), new StringSerializer())) {
            for (int later : List.of(0, 5, 2))
                producer.send(new ProducerRecord<>("times", 0, now + later, "k", "v")).get();
        }
        var found = admin.listOffsets(Map.of(partition, OffsetSpec.maxTimestamp())).partitionResult(partition).get();
        check(found.offset() == 1, "the largest timestamp is the second record's, not that of " + found.offset());
    }

    /** A missing feature never hangs a client, and its error says what is missing. */
    static void refused() throws Exception {
        long since = System.currentTimeMillis();
        try (var producer = new KafkaProducer<>(Map.<String, Object>of("bootstrap.servers", bootstrap,
                "transactional.id", "t"), new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            throw new AssertionError("there are no transactions");
        } catch (KafkaException e) {
            check(!(e instanceof org.apache.kafka.common.errors.TimeoutException), "clear: " + e);
        }
        try (var consumer = member("static", Map.of("group.instance.id", "one"))) {
            consumer.subscribe(List.of("grouped"));
            consumer.poll(Duration.ofSeconds(20));
            throw new AssertionError("there are no static members");
        } catch (UnsupportedVersionException e) {
            // This error is expected.
        }
        try (var consumer = new KafkaConsumer<>(Map.<String, Object>of("bootstrap.servers", bootstrap, "group.id", "new",
                "group.protocol", "consumer"), new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of("grouped"));
            long deadline = System.currentTimeMillis() + 20_000;
            while (System.currentTimeMillis() < deadline) consumer.poll(Duration.ofMillis(100));
            throw new AssertionError("there are no KIP-848 groups");
        } catch (UnsupportedVersionException e) {
            // This error is expected.
        }
        check(System.currentTimeMillis() - since < 20_000, "refusals are quick");
    }
}
