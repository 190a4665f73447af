import LossdEngine
import LossdSocket
import LossdTensor
import Synchronization

/// The unit that connections are counted by: a uid of this machine, or a host.
enum UserID: Hashable, Sendable, CustomStringConvertible {
  case uid(UInt32)
  /// Containers use subordinate uids in blocks of 65,536. A block is one user.
  case uidBlock(UInt32)
  /// An IPv4 address, or the 64-bit network of an IPv6 address.
  case address(String)
  /// The peer cannot be identified: its connection is a user of its own.
  case connection(UInt64)

  /// The uid that a user namespace shows for every uid outside of it.
  static let overflowUID: UInt32 = 65_534

  init(uid: UInt32, connection: UInt64) {
    switch uid {
    case UserID.overflowUID: self = .connection(connection)
    case 65_536...: self = .uidBlock(uid >> 16)
    default: self = .uid(uid)
    }
  }

  /// The user at the other end of a socket; `connection` is a number of its own.
  init(peerOf descriptor: Int32, connection: UInt64) {
    if let peer = PeerCredentials(of: descriptor) {
      self.init(uid: peer.userID, connection: connection)
    } else if let network = peerNetwork(descriptor) {
      self = .address(network)
    } else {
      self = .connection(connection)
    }
  }

  var description: String {
    switch self {
    case .uid(let uid): "uid \(uid)"
    case .uidBlock(let block): "uids \(block << 16) to \(block << 16 | 0xFFFF)"
    case .address(let address): address
    case .connection(let number): "connection \(number)"
    }
  }
}

/// What the connections of one user hold together, against the user's limits. Any thread.
final class User: Sendable {
  let id: UserID
  /// Bytes in flight.
  let bytes: MemoryBudget
  /// The user's place in the workers' queue.
  let work = WorkUser()
  /// Connections open.
  let connections = Atomic<Int>(0)

  init(
    _ id: UserID, bytesMax: Int, within daemon: MemoryBudget,
    onRelease: @escaping @Sendable (MemoryBudget) -> Void
  ) {
    self.id = id
    bytes = MemoryBudget(
      bytesMax: bytesMax, setting: "limits.user_bytes", owner: "user \(id)", parent: daemon,
      onRelease: onRelease)
  }

  /// Whether the user holds nothing that a later connection would have to be counted with.
  var isForgettable: Bool {
    connections.load(ordering: .relaxed) == 0 && bytes.bytesInFlight == 0
  }
}

/// All users of the daemon. Any thread.
final class Users: Sendable {
  private struct State {
    var users: [UserID: User] = [:]
    /// At so many users, those that hold nothing are forgotten.
    var forgetCount = 64
    var bytesMax: Int
  }

  private let daemon: MemoryBudget
  /// Called after memory of a user has been released while somebody waits for it.
  private let onRelease: @Sendable (MemoryBudget) -> Void
  private let state: Mutex<State>

  init(
    bytesMax: Int, within daemon: MemoryBudget,
    onRelease: @escaping @Sendable (MemoryBudget) -> Void
  ) {
    self.daemon = daemon
    self.onRelease = onRelease
    state = Mutex(State(bytesMax: bytesMax))
  }

  /// Counts one more connection of a user; nil: the user has `connectionsMax` already.
  func join(_ id: UserID, connectionsMax: Int) -> User? {
    state.withLock { state in
      let user = state.users[id] ?? add(id, &state)
      if user.connections.load(ordering: .relaxed) >= connectionsMax { return nil }
      user.connections.add(1, ordering: .relaxed)
      return user
    }
  }

  /// A connection of the user has ended.
  func leave(_ user: User) { user.connections.subtract(1, ordering: .relaxed) }

  private func add(_ id: UserID, _ state: inout State) -> User {
    if state.users.count >= state.forgetCount {
      state.users = state.users.filter { !$0.value.isForgettable }
      state.forgetCount = max(64, 2 * state.users.count)
    }
    let user = User(id, bytesMax: state.bytesMax, within: daemon, onRelease: onRelease)
    state.users[id] = user
    return user
  }

  /// Changes the limit of every user.
  func setBytesMax(_ bytes: Int) {
    let users = state.withLock { state in
      state.bytesMax = bytes
      return Array(state.users.values)
    }
    for user in users { user.bytes.setBytesMax(bytes) }
  }
}
