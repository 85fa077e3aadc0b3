// The scenario with Sarama.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"highwater.test/clients/scenario"
)

var (
	seed, name string
	check      = scenario.Check
	ensure     = scenario.Ensure
)

func config() *sarama.Config {
	made := sarama.NewConfig()
	made.Version = sarama.V4_0_0_0
	made.Producer.Return.Successes = true
	made.Producer.RequiredAcks = sarama.WaitForAll
	made.Producer.MaxMessageBytes = 1_048_588
	made.Producer.Partitioner = sarama.NewManualPartitioner
	made.Consumer.MaxWaitTime = 100 * time.Millisecond
	made.Consumer.Offsets.Initial = sarama.OffsetOldest
	made.Consumer.Offsets.AutoCommit.Enable = false
	made.Consumer.Group.Session.Timeout = 6 * time.Second
	made.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	made.Net.TLS.Config = scenario.TLS()
	made.Net.TLS.Enable = made.Net.TLS.Config != nil
	return made
}

// The answer of a call that Sarama repeats only once when a partition has another leader.
func again[T any](call func() (T, error), what string) (answer T) {
	scenario.Until(func() bool {
		var err error
		answer, err = call()
		if errors.Is(err, sarama.ErrNotLeaderForPartition) {
			return false
		}
		check(err, what)
		return true
	}, what)
	return answer
}

func administration(admin sarama.ClusterAdmin) {
	topic, retention := name+"-admin", "1234567"
	detail := &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1,
		ConfigEntries: map[string]*string{"retention.ms": &retention}}
	check(admin.CreateTopic(topic, detail, false), "create")
	err := admin.CreateTopic(topic, detail, false)
	ensure(errors.Is(err, sarama.ErrTopicAlreadyExists), "a topic that is there: %v", err)
	partitions := func() int32 {
		listed, err := admin.ListTopics()
		check(err, "list")
		return listed[topic].NumPartitions
	}
	scenario.Until(func() bool { return partitions() == 3 }, "three partitions")
	entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic,
		ConfigNames: []string{"retention.ms"}})
	check(err, "describe config")
	ensure(len(entries) == 1 && entries[0].Value == retention, "config %v", entries)
	check(admin.CreatePartitions(topic, 5, nil, false), "create partitions")
	scenario.Until(func() bool {
		described, err := admin.DescribeTopics([]string{topic})
		check(err, "describe")
		return len(described[0].Partitions) == 5
	}, "five partitions")
	check(admin.DeleteTopic(topic), "delete")
	scenario.Until(func() bool { return partitions() == 0 }, "the topic is gone")
}

func message(topic string, i int) *sarama.ProducerMessage {
	made := &sarama.ProducerMessage{Topic: topic, Timestamp: scenario.Time(i), Headers: []sarama.RecordHeader{
		{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("a"), Value: []byte{0xff}}, {Key: []byte("n")}}}
	if key := scenario.Key(i); key != nil {
		made.Key = sarama.ByteEncoder(key)
	}
	if value := scenario.Value(i); value != nil {
		made.Value = sarama.ByteEncoder(value)
	}
	return made
}

func same(record *sarama.ConsumerMessage, i int) {
	ensure(record.Offset == int64(i), "offset %d instead of %d", record.Offset, i)
	ensure(scenario.Same(record.Key, scenario.Key(i)), "key of %d", i)
	ensure(scenario.Same(record.Value, scenario.Value(i)), "value of %d", i)
	ensure(record.Timestamp.Equal(scenario.Time(i)), "timestamp of %d: %v", i, record.Timestamp)
	headers := record.Headers
	ensure(len(headers) == 3 && string(headers[0].Key) == "a" && string(headers[2].Key) == "n", "headers of %d", i)
	ensure(string(headers[0].Value) == "1" && bytes.Equal(headers[1].Value, []byte{0xff}), "headers of %d", i)
	ensure(headers[2].Value == nil, "the null header of %d", i)
}

func codec(codec sarama.CompressionCodec) {
	settings := config()
	settings.Producer.Compression = codec
	settings.Producer.Idempotent = true
	settings.Producer.Flush.Frequency = 5 * time.Millisecond
	settings.Net.MaxOpenRequests = 1
	topic := name + "-" + codec.String()
	client, err := sarama.NewClient(strings.Split(seed, ","), settings)
	check(err, "client")
	defer client.Close()
	producer, err := sarama.NewSyncProducerFromClient(client)
	check(err, "producer")
	messages := []*sarama.ProducerMessage{}
	for i := range scenario.Count {
		messages = append(messages, message(topic, i))
	}
	check(producer.SendMessages(messages), "produce "+topic)
	check(producer.Close(), "close")
	consumer, err := sarama.NewConsumerFromClient(client)
	check(err, "consumer")
	defer consumer.Close()
	read := func(from int64, count int) {
		partition := again(func() (sarama.PartitionConsumer, error) {
			return consumer.ConsumePartition(topic, 0, from)
		}, "consume "+topic)
		for i := range count {
			same(<-partition.Messages(), int(from)+i)
		}
		check(partition.Close(), "close")
	}
	read(0, scenario.Count)
	read(77, 1)
	at := func(time int64) int64 {
		return again(func() (int64, error) { return client.GetOffset(topic, 0, time) }, "offset")
	}
	offset := at(scenario.Time(50).UnixMilli())
	ensure(offset == 50, "offset for a time: %d", offset)
	offset = at(sarama.OffsetNewest)
	ensure(offset == scenario.Count, "end: %d", offset)
}

func largest() {
	settings := config()
	settings.Producer.MaxMessageBytes = 2_000_000
	producer, err := sarama.NewSyncProducer(strings.Split(seed, ","), settings)
	check(err, "producer")
	defer producer.Close()
	send := func(size int) error {
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: name + "-largest",
			Value: sarama.ByteEncoder(scenario.Pattern(0, size))})
		return err
	}
	check(send(scenario.Largest), "largest")
	err = send(scenario.Largest + 1)
	ensure(errors.Is(err, sarama.ErrMessageSizeTooLarge), "more than the largest: %v", err)
}

func fill(from, to int) {
	settings := config()
	settings.Producer.Compression = sarama.CompressionLZ4
	settings.Producer.Partitioner = sarama.NewHashPartitioner
	producer, err := sarama.NewSyncProducer(strings.Split(seed, ","), settings)
	check(err, "producer")
	defer producer.Close()
	messages := []*sarama.ProducerMessage{}
	for i := from; i < to; i++ {
		messages = append(messages, &sarama.ProducerMessage{Topic: name + "-group",
			Key: sarama.StringEncoder(fmt.Sprintf("k%d", i%97)), Value: sarama.StringEncoder(strconv.Itoa(i))})
	}
	check(producer.SendMessages(messages), "fill")
}

// The partitions and the records of two members.
type shared struct {
	sync.Mutex
	sizes [2]int
	seen  map[int]bool
}

func (state *shared) wait(ctx context.Context, what string, condition func() bool) {
	for {
		state.Lock()
		done := condition()
		state.Unlock()
		if done {
			return
		}
		check(ctx.Err(), what)
		time.Sleep(20 * time.Millisecond)
	}
}

type member struct {
	state *shared
	index int
}

func (member member) Setup(session sarama.ConsumerGroupSession) error {
	member.state.Lock()
	member.state.sizes[member.index] = len(session.Claims()[name+"-group"])
	member.state.Unlock()
	return nil
}

func (member member) Cleanup(session sarama.ConsumerGroupSession) error {
	session.Commit()
	member.state.Lock()
	member.state.sizes[member.index] = 0
	member.state.Unlock()
	return nil
}

func (member member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for record := range claim.Messages() {
		number, err := strconv.Atoi(string(record.Value))
		check(err, "value")
		member.state.Lock()
		member.state.seen[number] = true
		member.state.Unlock()
		session.MarkMessage(record, "")
	}
	return nil
}

func group(ctx context.Context, admin sarama.ClusterAdmin) {
	topic := name + "-group"
	check(admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 4, ReplicationFactor: 1}, false), "create")
	fill(0, scenario.GroupCount)
	state := &shared{seen: map[int]bool{}}
	stops, done := [2]context.CancelFunc{}, [2]chan struct{}{}
	for i := range stops {
		group, err := sarama.NewConsumerGroup(strings.Split(seed, ","), name, config())
		check(err, "group")
		running, stop := context.WithCancel(ctx)
		stops[i], done[i] = stop, make(chan struct{})
		go func() {
			defer close(done[i])
			for running.Err() == nil {
				check(group.Consume(running, []string{topic}, member{state, i}), "consume")
			}
			// Sarama leaves the group once, and does not look for a coordinator that has moved
			err := group.Close()
			if scenario.Alone(seed) || !errors.Is(err, sarama.ErrNotCoordinatorForConsumer) {
				check(err, "close")
			}
		}()
	}
	state.wait(ctx, "two members share", func() bool {
		return state.sizes == [2]int{2, 2} && len(state.seen) == scenario.GroupCount
	})
	scenario.Until(func() bool {
		described, err := admin.DescribeConsumerGroups([]string{name})
		check(err, "describe group")
		return described[0].State == "Stable" && len(described[0].Members) == 2
	}, "a stable group of two")
	stops[0]()
	<-done[0]
	state.wait(ctx, "the other takes over", func() bool { return state.sizes[1] == 4 })
	state.Lock()
	state.seen = map[int]bool{}
	state.Unlock()
	fill(scenario.GroupCount, scenario.GroupCount+scenario.More)
	state.wait(ctx, "the other reads on", func() bool { return scenario.Rest(state.seen) >= scenario.More })
	stops[1]()
	<-done[1]
	for number := range state.seen {
		ensure(number >= scenario.GroupCount || !scenario.Alone(seed), "%d is read again", number)
	}
	offsets, err := admin.ListConsumerGroupOffsets(name, map[string][]int32{topic: {0, 1, 2, 3}})
	check(err, "offsets")
	sum := int64(0)
	for _, each := range offsets.Blocks[topic] {
		sum += each.Offset
	}
	ensure(sum == scenario.GroupCount+scenario.More, "committed %d", sum)
	check(admin.DeleteConsumerGroup(name), "delete group")
}

func main() {
	seed, name = os.Args[1], os.Args[2]
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	admin, err := sarama.NewClusterAdmin(strings.Split(seed, ","), config())
	check(err, "admin")
	defer admin.Close()
	administration(admin)
	for _, each := range []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy,
		sarama.CompressionLZ4, sarama.CompressionZSTD} {
		codec(each)
	}
	largest()
	group(ctx, admin)
	fmt.Printf("sarama %s: the scenario holds\n", scenario.Version("github.com/IBM/sarama"))
}
