// LossdServer: connections, calls and services over sockets. It turns frames into calls, calls into
// evaluations, and results into frames, within limits. It knows no command line and no file but
// sockets.

/// What a daemon allows. Times in nanoseconds, sizes in bytes.
public struct ServerLimits: Sendable, Equatable {
  /// The largest message of a frame.
  public var messageBytesMax: UInt32 = 1 << 20
  /// The largest payload of a frame.
  public var payloadBytesMax: UInt64 = 1 << 30
  /// Calls open at once on one connection.
  public var streamsMax: UInt32 = 256
  /// Requests of one call under way.
  public var streamCredit: UInt32 = 8
  /// Connections open at once; more wait to be accepted.
  public var connectionsMax = 16_384
  /// Payloads, results and working memory under way for one connection.
  public var connectionBytesMax = 2 << 30
  /// The same for all connections.
  public var totalBytesMax = 8 << 30
  /// The same for all connections of one user; 0: half of `totalBytesMax`.
  public var userBytesMax = 0
  /// Connections of one user open at once.
  public var userConnectionsMax = 4_096
  /// Calls of one user open at once.
  public var userStreamsMax: UInt32 = 16_384
  /// Shared memory that all connections have together.
  public var regionBytesMax = 8 << 30
  /// Shared memory that all connections of one user have together; 0: half of `regionBytesMax`.
  public var userRegionBytesMax = 0
  /// Regions of shared memory of all connections.
  public var regionsMax: UInt32 = 16_384
  /// Regions of shared memory of all connections of one user.
  public var userRegionsMax: UInt32 = 4_096
  /// From a connection's end until the pages of its regions are freed.
  public var regionGrace: UInt64 = 10_000_000_000
  /// The estimated work of one call, nanoseconds of one core.
  public var callCostMax: UInt64 = 3_600_000_000_000
  /// Output queued on a connection. Beyond it nothing more is read from the connection.
  public var queuedBytesMax = 4 << 20
  /// Time from the connection to its HELLO.
  public var helloTimeout: UInt64 = 10_000_000_000
  /// Time without a byte in the middle of a frame.
  public var frameTimeout: UInt64 = 30_000_000_000
  /// Time without a frame while no call is open; 0: no limit.
  public var idleTimeout: UInt64 = 0
  /// Time in which the client takes no byte of queued output.
  public var writeTimeout: UInt64 = 30_000_000_000
  /// Time that a call or a payload waits for memory before it is refused.
  public var waitTimeout: UInt64 = 20_000_000_000
  /// Time that a call may hold memory without getting on, while others wait for memory.
  public var starveTimeout: UInt64 = 10_000_000_000
  /// Time of one callback of a plugin; 0: no limit.
  public var callbackTimeout: UInt64 = 10_000_000_000
  /// Time from the begin of a drain to its end.
  public var drainTimeout: UInt64 = 30_000_000_000

  public init() {}

  /// The most bytes that one user may have in flight.
  public var userBytes: Int { userBytesMax > 0 ? userBytesMax : totalBytesMax / 2 }

  /// The most bytes of shared memory that one user may have.
  public var userRegionBytes: Int {
    userRegionBytesMax > 0 ? userRegionBytesMax : regionBytesMax / 2
  }

  /// The smallest values the protocol allows: every server accepts messages and payloads of these.
  public static let messageBytesMin: UInt32 = 64 << 10
  public static let payloadBytesMin: UInt64 = 1 << 20
  public static let streamsMin: UInt32 = 8
}
