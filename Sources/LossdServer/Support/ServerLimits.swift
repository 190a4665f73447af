// LossdServer: connections, calls and services over sockets: it turns frames into calls, calls into
// evaluations and results into frames, within limits. It knows no command line and no file but sockets.

/// What a daemon allows. Times in nanoseconds, sizes in bytes.
public struct ServerLimits: Sendable, Equatable {
  /// The largest message of a frame.
  public var messageBytesMax: UInt32 = 4 << 20
  /// The largest payload of a frame.
  public var payloadBytesMax: UInt64 = 1 << 30
  /// Calls open at once on one connection.
  public var streamsMax: UInt32 = 256
  /// Requests of one call that may be under way.
  public var streamCredit: UInt32 = 8
  /// Connections open at once; more wait to be accepted.
  public var connectionsMax = 16_384
  /// Payloads, results and working memory under way for one connection.
  public var connectionBytesMax = 2 << 30
  /// The same for all connections.
  public var totalBytesMax = 8 << 30
  /// Output queued on a connection beyond which nothing more is read from it.
  public var queuedBytesMax = 4 << 20
  /// From the connection to its HELLO.
  public var helloTimeout: UInt64 = 10_000_000_000
  /// Without a byte in the middle of a frame.
  public var frameTimeout: UInt64 = 30_000_000_000
  /// Without a frame while no call is open; 0: none.
  public var idleTimeout: UInt64 = 0
  /// Without a byte taken from queued output.
  public var writeTimeout: UInt64 = 30_000_000_000
  /// A call without response credit, while others wait for memory that it holds.
  public var starveTimeout: UInt64 = 10_000_000_000
  /// A callback of a plugin; 0: none.
  public var callbackTimeout: UInt64 = 10_000_000_000
  /// From the begin of a drain to its end.
  public var drainTimeout: UInt64 = 30_000_000_000

  public init() {}

  /// The smallest values the protocol allows: every server accepts messages and payloads of these.
  public static let messageBytesMin: UInt32 = 64 << 10
  public static let payloadBytesMin: UInt64 = 1 << 20
  public static let streamsMin: UInt32 = 8
}
