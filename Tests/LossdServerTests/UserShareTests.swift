import LossdEngine
import Testing

@testable import LossdServer

@Suite struct UserShareTests {
  private static let mebibyte = 1 << 20

  private func makeShare(bytesMax: Int) -> (UserShare, User, DaemonState) {
    let daemon = makeDaemon()
    let user = User(.uid(1), bytesMax: bytesMax, within: budget(1 << 40)) { _ in }
    return (UserShare(user, daemon), user, daemon)
  }

  private func leased(of daemon: DaemonState) -> Int {
    daemon.leasedBytes.load(ordering: .relaxed)
  }

  @Test("a mebibyte is leased at the first byte, and what lies in it costs the budget nothing")
  func leases() {
    let (share, user, daemon) = makeShare(bytesMax: 1 << 30)
    share.connections = 1
    #expect(share.take(1) == nil)
    #expect(user.bytes.bytesInFlight == UserShareTests.mebibyte)
    #expect(share.take(UserShareTests.mebibyte - 1) == nil)
    #expect(user.bytes.bytesInFlight == UserShareTests.mebibyte)
    #expect(share.take(1) == nil)
    #expect(user.bytes.bytesInFlight == 2 * UserShareTests.mebibyte)
    #expect(leased(of: daemon) == 2 * UserShareTests.mebibyte)
    share.give(UserShareTests.mebibyte + 1)
    share.connections = 0
    share.giveBack()
    #expect(user.bytes.bytesInFlight == 0 && share.leased == 0 && share.used == 0)
    #expect(leased(of: daemon) == 0)
  }

  @Test("where no whole step is left, the bytes that are missing are leased, and no more")
  func small() {
    let (share, user, _) = makeShare(bytesMax: 10_000)
    share.connections = 1
    #expect(share.take(100) == nil)
    #expect(share.leased == 4096)
    #expect(share.take(9000) == nil)
    #expect(share.leased == 9100 && user.bytes.bytesInFlight == 9100)
    #expect(share.take(901)?.budget === user.bytes)
    #expect(share.used == 9100)
    #expect(share.take(900) == nil)
    #expect(user.bytes.bytesInFlight == 10_000)
  }

  @Test("what is held already is charged without room, and covered once there is some")
  func force() {
    let (share, user, _) = makeShare(bytesMax: 10_000)
    share.connections = 1
    #expect(!share.force(20_000))
    #expect(share.used == 20_000 && share.leased == 0 && !share.isCovered)
    user.bytes.setBytesMax(20_000)
    #expect(share.isCovered)
    #expect(user.bytes.bytesInFlight == 20_000)
    #expect(share.isLarge)
    share.give(20_000)
    #expect(!share.isLarge)
  }

  @Test("whatever is taken and given, the budget has what is leased, which covers what is used")
  func conservation() {
    var numbers = Numbers(seed)
    for bytesMax in [50_000, 1 << 22, 1 << 30] {
      let (share, user, daemon) = makeShare(bytesMax: bytesMax)
      share.connections = 1
      var held: [Int] = []
      for _ in 0..<5000 {
        if Bool.random(using: &numbers), let bytes = held.popLast() {
          share.give(bytes)
        } else {
          let bytes = Int.random(in: 0...(bytesMax >> 4), using: &numbers)
          if share.take(bytes) == nil { held.append(bytes) }
        }
        #expect(share.used == held.reduce(0, +), "LOSSD_SEED=\(seed)")
        #expect(share.used <= share.leased && share.leased <= bytesMax, "LOSSD_SEED=\(seed)")
        #expect(share.leased == user.bytes.bytesInFlight, "LOSSD_SEED=\(seed)")
        #expect(share.leased == leased(of: daemon))
        #expect(share.leased - share.used <= 2 * UserShareTests.mebibyte, "LOSSD_SEED=\(seed)")
      }
      share.connections = 0
      for bytes in held { share.give(bytes) }
      share.giveBack()
      #expect(user.bytes.bytesInFlight == 0, "LOSSD_SEED=\(seed)")
    }
  }

  @Test("a connection's small things and its bytes in flight share its limit")
  func connections() {
    let (share, _, _) = makeShare(bytesMax: 1 << 30)
    share.connections = 1
    let account = budget(1000)
    let small = SmallAccount(share, account)
    #expect(account.reserve(600) == nil)
    #expect(small.take(401)?.budget === account)
    #expect(small.used == 0 && share.used == 0)
    #expect(small.take(400) == nil)
    account.release(600)
    #expect(small.take(600) == nil)
    #expect(small.take(1) != nil)
    small.give(1000)
    #expect(small.used == 0 && share.used == 0)
  }
}

@Suite struct UserTests {
  @Test("a block of 65,536 subordinate uids is one user, and the overflow uid is nobody's")
  func ids() {
    #expect(UserID(uid: 0, connection: 1) == .uid(0))
    #expect(UserID(uid: 65_533, connection: 1) == UserID(uid: 65_533, connection: 2))
    #expect(UserID(uid: 65_534, connection: 1) != UserID(uid: 65_534, connection: 2))
    #expect(UserID(uid: 65_535, connection: 1) == .uid(65_535))
    #expect(UserID(uid: 65_536, connection: 1) == UserID(uid: 131_071, connection: 2))
    #expect(UserID(uid: 131_072, connection: 1) != UserID(uid: 131_071, connection: 1))
    #expect("\(UserID(uid: 65_540, connection: 1))" == "uids 65536 to 131071")
    #expect("\(UserID(uid: .max, connection: 1))" == "uids 4294901760 to 4294967295")
  }

  @Test("connections of a user are counted up to the limit, those of another apart from them")
  func joins() throws {
    let users = Users(bytesMax: 100, within: budget(1000)) { _ in }
    let user = try #require(users.join(.uid(1), connectionsMax: 2))
    #expect(users.join(.uid(1), connectionsMax: 2) === user)
    #expect(users.join(.uid(1), connectionsMax: 2) == nil)
    #expect(users.join(.uid(2), connectionsMax: 2) != nil)
    users.leave(user)
    #expect(users.join(.uid(1), connectionsMax: 2) === user)
    users.setBytesMax(70)
    #expect(user.bytes.bytesMax == 70)
    #expect(users.join(.uid(3), connectionsMax: 1)?.bytes.bytesMax == 70)
  }

  @Test("users that hold nothing are forgotten before there are many, and the others are not")
  func forgets() throws {
    let users = Users(bytesMax: 100, within: budget(1000)) { _ in }
    let holding = try #require(users.join(.uid(0), connectionsMax: 1))
    #expect(holding.bytes.reserve(1) == nil)
    users.leave(holding)
    for uid in 1..<UInt32(10_000) {
      let user = try #require(users.join(.connection(UInt64(uid)), connectionsMax: 1))
      users.leave(user)
    }
    #expect(users.join(.uid(0), connectionsMax: 1) === holding)
    weak var idle: User?
    do {
      let user = try #require(users.join(.uid(9), connectionsMax: 1))
      idle = user
      users.leave(user)
    }
    for uid in 0..<UInt64(200) {
      if let user = users.join(.connection(uid), connectionsMax: 1) { users.leave(user) }
    }
    #expect(idle == nil)
  }

  @Test("root and the daemon's own user administer; on a socket for anybody, anybody does")
  func admins() {
    #expect(AdminPeers.owner.refusal(user: 0, own: 1000) == nil)
    #expect(AdminPeers.owner.refusal(user: 1000, own: 1000) == nil)
    #expect(
      AdminPeers.owner.refusal(user: 1001, own: 1000)
        == "user 1001 is neither root nor the daemon's own user (admin_peers)")
    // Whom a user namespace does not know may be anybody, the daemon's own user or not.
    #expect(AdminPeers.owner.refusal(user: 65_534, own: 65_534) != nil)
    #expect(AdminPeers.socket.refusal(user: 1001, own: 1000) == nil)
    #expect(AdminPeers.owner.refusal(-1) == "administrators connect to a Unix socket")
  }
}

@Suite struct RegionLedgerTests {
  private func refusal(
    _ ledger: RegionLedger, _ bytes: Int, _ owner: UserID, _ limits: ServerLimits
  ) -> String? {
    do {
      try ledger.take(bytes, owner, limits)
      return nil
    } catch { return error.code == .resourceExhausted ? error.message : "another code" }
  }

  @Test(
    "a region that does not fit is refused by the limit that it is over, and nothing is counted")
  func limits() {
    var limits = ServerLimits()
    limits.regionBytesMax = 1000
    limits.userRegionBytesMax = 600
    limits.regionsMax = 3
    limits.userRegionsMax = 2
    let ledger = RegionLedger()
    #expect(refusal(ledger, 500, .uid(1), limits) == nil)
    for bytes in [101, Int.max] {
      #expect(
        refusal(ledger, bytes, .uid(1), limits)
          .map {
            $0.contains("user uid 1 has 500 bytes") || $0.contains("the daemon has 500 bytes")
          }
          == true)
    }
    #expect(refusal(ledger, 100, .uid(1), limits) == nil)
    #expect(refusal(ledger, 0, .uid(1), limits)?.contains("(limits.user_regions)") == true)
    #expect(refusal(ledger, 401, .uid(2), limits)?.contains("(limits.region_bytes)") == true)
    #expect(refusal(ledger, 400, .uid(2), limits) == nil)
    #expect(refusal(ledger, 0, .uid(3), limits)?.contains("(limits.regions)") == true)
    #expect(ledger.bytes == 1000 && ledger.regions == 3)
    ledger.give(500, .uid(1))
    ledger.give(100, .uid(1))
    ledger.give(400, .uid(2))
    #expect(ledger.bytes == 0 && ledger.regions == 0)
    #expect(refusal(ledger, 600, .uid(1), limits) == nil)
  }

  @Test("a connection's regions are held to its own limit, by difference")
  func account() {
    let account = RegionAccount(bytesMax: 100)
    #expect(account.reserve(60))
    #expect(!account.reserve(41) && !account.reserve(.max))
    #expect(account.reserve(40) && account.bytes == 100)
    account.release(100)
    #expect(account.bytes == 0)
  }
}

@Suite struct AccessRecordTests {
  @Test("a line has no blank but between its fields, whatever a client calls its method")
  func text() {
    var record = AccessRecord(
      peer: "uid=1 pid=2", connection: 3, stream: 5, method: "/a b\n\tc\u{2028}d", begin: 1000)
    record.received = 7
    record.sent = 8
    record.end = 5999
    record.code = .cancelled
    #expect(
      record.text
        == "call uid=1 pid=2 connection=3 stream=5 method=/a?b??c?d function=- code=CANCELLED us=4 "
        + "received=7 sent=8")
  }

  @Test("lines that find no room are counted and told, and all others are written")
  func full() {
    let lines = Shared<[String]>([])
    let log = AccessLog(recordsMax: 10) { text in lines.withLock { $0 += text } }
    var record = AccessRecord(peer: "p", connection: 1, stream: 1, method: "m", begin: 0)
    record.end = 1
    for _ in 0..<10_000 { log.add(record) }
    log.close()
    let written = lines.withLock { $0 }
    let told = written.compactMap { line -> Int? in
      guard line.hasPrefix("access log: ") else { return nil }
      return Int(line.split(separator: " ")[2])
    }
    #expect(written.count - told.count + told.reduce(0, +) == 10_000)
    #expect(!told.isEmpty)
  }
}
