//! The text that a node prints on standard output when it has started. It prints nothing else there.

use std::fmt;

use highwater_types::{ByteSize, ClusterId};

use crate::config::Config;

pub(crate) struct Banner<'a> {
    pub(crate) config: &'a Config,
    pub(crate) cluster: ClusterId,
    pub(crate) listens: String,
    /// The address for bootstrap.servers: host and port; `None` for a node that serves no clients.
    pub(crate) bootstrap: Option<String>,
    /// Batches recovered from the write-ahead log.
    pub(crate) recovered: u64,
    /// The commit that the process was built from.
    pub(crate) commit: &'static str,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.config;
        let admin = match config.text("highwater.admin.listener").trim() {
            "" => "off".to_owned(),
            address if address.starts_with(':') => {
                format!("http://localhost{address}/metrics, /health/ready, and on every address")
            }
            address => format!("http://{address}/metrics, /health/ready"),
        };
        let recovered = match self.recovered {
            0 => String::new(),
            count => format!("recovered    {count} record batches from the write-ahead log\n"),
        };
        write!(
            f,
            "highwater {version} (commit {commit}), node {node} of cluster {cluster}\n\
             listens on   {listens}\n\
             data         {data}\n\
             objects      {objects}\n\
             memory       {memory}\n\
             admin        {admin}\n\
             {recovered}\
             note         cleanup.policy=compact does not delete records yet\n",
            version = env!("CARGO_PKG_VERSION"),
            commit = self.commit,
            node = config.node_id,
            cluster = self.cluster,
            listens = self.listens,
            data = config.data_dir.display(),
            objects = config.object_storage.url,
            memory = ByteSize(config.memory.limit),
        )?;
        let Some(bootstrap) = &self.bootstrap else {
            return Ok(());
        };
        write!(
            f,
            "\n\
             To write and read a record with Apache Kafka's tools:\n  \
               kafka-topics.sh --bootstrap-server {bootstrap} --create --topic first\n  \
               echo hello | kafka-console-producer.sh --bootstrap-server {bootstrap} --topic first\n  \
               kafka-console-consumer.sh --bootstrap-server {bootstrap} --topic first --from-beginning\n\
             or with kcat, which creates the topic by asking for it:\n  \
               kcat -b {bootstrap} -L -t first\n  \
               echo hello | kcat -b {bootstrap} -P -t first\n  \
               kcat -b {bootstrap} -C -t first -e\n",
        )
    }
}
