// The message, for peers/thrift.py.
struct Message {
  1: i64 a,
  2: string s
}

service Echo {
  Message echo(1: Message message)
}
