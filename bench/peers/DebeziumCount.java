// Counts what Debezium's embedded engine brings, in its fastest configuration, and does nothing else with it.
//
//   java -cp JARS DebeziumCount.java PROPERTIES FORMAT COUNT
//
// PROPERTIES: the engine's and the connector's. FORMAT: connect (records as Debezium makes them) or json (as it hands
// them to others). Ends behind COUNT records with one line of JSON: rows, seconds (from the first batch to the last),
// start_seconds (from the program's start to the first batch).

import io.debezium.embedded.Connect;
import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import io.debezium.engine.format.SerializationFormat;
import java.io.FileReader;
import java.io.Reader;
import java.util.List;
import java.util.Locale;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

public final class DebeziumCount {
  private static final long STARTED = System.nanoTime();

  private static final class Counter<R> implements DebeziumEngine.ChangeConsumer<R> {
    private final long wanted;
    private final CountDownLatch ended;
    private long rows;
    private long first;
    private long last;

    Counter(long wanted, CountDownLatch ended) {
      this.wanted = wanted;
      this.ended = ended;
    }

    @Override
    public void handleBatch(List<R> records, DebeziumEngine.RecordCommitter<R> committer) throws InterruptedException {
      if (rows == 0) {
        first = System.nanoTime();
      }
      for (R record : records) {
        committer.markProcessed(record);
      }
      committer.markBatchFinished();
      rows += records.size();
      last = System.nanoTime();
      if (rows >= wanted) {
        ended.countDown();
      }
    }

    // without tombstones, deletes are one record as updates are
    @Override
    public boolean supportsTombstoneEvents() {
      return false;
    }
  }

  private static <T> void count(Class<? extends SerializationFormat<T>> format, Properties properties, long wanted)
      throws Exception {
    CountDownLatch ended = new CountDownLatch(1);
    Counter<ChangeEvent<T, T>> counter = new Counter<>(wanted, ended);
    DebeziumEngine<ChangeEvent<T, T>> engine =
        DebeziumEngine.create(format)
            .using(properties)
            .notifying(counter)
            .using(
                (success, message, error) -> {
                  if (!success) {
                    System.err.println(message);
                    if (error != null) {
                      error.printStackTrace();
                    }
                    System.exit(1);
                  }
                })
            .build();
    ExecutorService executor = Executors.newSingleThreadExecutor();
    executor.execute(engine);
    ended.await();
    engine.close(); // stores the offsets
    executor.shutdown();
    System.out.println(
        String.format(
            Locale.ROOT,
            "{\"rows\": %d, \"seconds\": %.6f, \"start_seconds\": %.6f}",
            counter.rows,
            (counter.last - counter.first) / 1e9,
            (counter.first - STARTED) / 1e9));
    System.exit(0);
  }

  public static void main(String[] arguments) throws Exception {
    Properties properties = new Properties();
    try (Reader reader = new FileReader(arguments[0])) {
      properties.load(reader);
    }
    long wanted = Long.parseLong(arguments[2]);
    if (arguments[1].equals("json")) {
      count(Json.class, properties, wanted);
    } else {
      count(Connect.class, properties, wanted);
    }
  }

  private DebeziumCount() {}
}
