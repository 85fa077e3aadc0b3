import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.common.utils.AppInfoParser;

/** Prints the answers to a Java client, perhaps one that Kafka 4 refuses: a line for each operation. */
public class Old {
    interface Attempt {
        Object run() throws Exception;
    }

    static void attempt(String what, Attempt attempt) {
        String outcome;
        try {
            outcome = "" + attempt.run();
        } catch (Exception e) {
            Throwable cause = e.getCause() == null ? e : e.getCause();
            outcome = cause.getClass().getSimpleName() + ": " + cause.getMessage();
        }
        System.out.println(AppInfoParser.getVersion() + " " + what + ": " + outcome.replaceAll("\\d{3,} ms", "<ms>"));
    }

    public static void main(String[] args) {
        String topic = args[1];
        var settings = Map.<String, Object>of("bootstrap.servers", args[0], "request.timeout.ms", 7000,
            "max.block.ms", 4000, "fetch.max.wait.ms", 100, "session.timeout.ms", 6000, "heartbeat.interval.ms", 500,
            "group.id", topic, "auto.offset.reset", "earliest", "retries", 0);
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            attempt("metadata", () -> producer.partitionsFor(topic).size() + " partition");
            attempt("produce", () -> "offset " + producer.send(new ProducerRecord<>(topic, "k", "v")).get().offset());
        }
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            var partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seek(partition, 0);
            attempt("fetch", () -> read(consumer));
            attempt("commit", () -> {
                consumer.commitSync(Map.of(partition, new OffsetAndMetadata(1)));
                return consumer.committed(partition).offset();
            });
        }
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            attempt("group", () -> {
                read(consumer);
                return consumer.assignment().size() + " partition";
            });
        }
    }

    static String read(KafkaConsumer<String, String> consumer) {
        int count = 0;
        for (int i = 0; i < 15 && count == 0; i++) count += consumer.poll(100).count();
        return count + " record";
    }
}
