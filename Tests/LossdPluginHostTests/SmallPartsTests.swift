import Glibc
import LossdTensor
import Testing

@testable import LossdPluginHost

@Suite struct ChecksumTests {
  /// FIPS 180-4's examples, and a million of the letter a.
  @Test(
    "SHA-256 is FIPS 180-4's",
    arguments: [
      ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
      (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
      ),
      (
        String(repeating: "a", count: 1_000_000),
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
      ),
    ])
  func vectors(_ text: String, _ digest: String) {
    var whole = Checksum()
    Array(text.utf8).withUnsafeBytes { whole.add($0) }
    #expect(whole.hexadecimal == digest)
    var pieces = Checksum()
    var rest = Array(text.utf8)[...]
    var size = 1
    while !rest.isEmpty {
      Array(rest.prefix(size)).withUnsafeBytes { pieces.add($0) }
      rest = rest.dropFirst(size)
      size = size * 3 + 1
    }
    #expect(pieces.hexadecimal == digest)
  }
}

@Suite struct PolicyTests {
  @Test("where a plugin runs: the list of its file first, then the settings, then its folder")
  func placement() {
    var policy = PluginPolicy()
    policy.ownFolder = "/usr/lib/lossd/plugins"
    policy.inDaemon = ["fast.so", "both.so"]
    policy.inProcess = ["slow.so", "both.so"]
    let own = "/usr/lib/lossd/plugins/x.so"
    let other = "/etc/lossd/plugins/x.so"
    #expect(policy.placement(own) == .daemon)
    #expect(policy.placement(other) == .process)
    #expect(policy.placement("/usr/lib/lossd/plugins/deeper/x.so") == .process)
    #expect(policy.placement("/etc/lossd/plugins/fast.so") == .daemon)
    #expect(policy.placement("/usr/lib/lossd/plugins/slow.so") == .process)
    #expect(policy.placement("/a/both.so") == .process, "of two answers the careful one")
    policy.isolation = .process
    #expect(policy.placement(own) == .process)
    #expect(policy.placement("/etc/lossd/plugins/fast.so") == .daemon)
    policy.isolation = .none
    #expect(policy.placement(other) == .daemon)
    #expect(policy.placement("/usr/lib/lossd/plugins/slow.so") == .process)
  }

  @Test("an own folder that is not known is nobody's")
  func noFolder() {
    let policy = PluginPolicy()
    #expect(policy.placement("x.so") == .process)
  }
}

@Suite struct HealthTests {
  private static let second: UInt64 = 1_000_000_000

  @Test(
    "after a crash another process starts at once; after more, ever later; after five, set aside"
  )
  func backOff() {
    var health = PluginHealth()
    var now = HealthTests.second
    health.died("was killed by SIGSEGV", now: now)
    #expect(health.pause(now: now) == 0)
    #expect(health.restarts == 1)
    #expect(health.lastReason == "was killed by SIGSEGV")
    var pauses: [UInt64] = []
    for _ in 0..<3 {
      health.died("again", now: now)
      pauses.append(health.pause(now: now))
      now += pauses.last ?? 0
      #expect(health.pause(now: now) == 0)
    }
    #expect(pauses == [50_000_000, 100_000_000, 200_000_000])
    #expect(!health.isSetAside)
    health.died("the last straw", now: now)
    #expect(health.isSetAside)
    #expect(health.pause(now: now) == PluginHealth.setAsideTime)
    #expect(health.lastReason == "the last straw")
    #expect(health.restarts == 5)
  }

  @Test("an answer makes up for the crashes before it")
  func answered() {
    var health = PluginHealth()
    for round in 0..<12 {
      health.died("x", now: UInt64(round + 1) * 10 * HealthTests.second)
      health.answered()
      #expect(health.pause(now: UInt64(round + 1) * 10 * HealthTests.second) == 0)
    }
    #expect(!health.isSetAside)
  }

  @Test("twenty crashes in a minute set it aside, whatever it answers in between")
  func tooMany() {
    var health = PluginHealth()
    var now = HealthTests.second
    for _ in 0..<19 {
      health.died("x", now: now)
      health.answered()
      now += HealthTests.second
    }
    #expect(!health.isSetAside)
    health.died("x", now: now)
    #expect(health.isSetAside)
    #expect(health.pause(now: now) > 0)
  }

  @Test(
    "when it is tried again, one crash sets it aside anew and one answer forgives",
    arguments: [
      false, true,
    ])
  func triedAgain(byWindow: Bool) {
    var health = PluginHealth()
    var now = HealthTests.second
    while !health.isSetAside {
      if byWindow { health.answered() }
      health.died("x", now: now)
      now += 1
    }
    #expect(health.restarts == (byWindow ? 20 : 5))
    now += PluginHealth.setAsideTime + 1
    #expect(health.pause(now: now) == 0)
    health.died("x", now: now)
    #expect(health.pause(now: now) == PluginHealth.setAsideTime)
    now += PluginHealth.setAsideTime + 1
    health.answered()
    #expect(!health.isSetAside)
    health.died("x", now: now)
    #expect(health.pause(now: now) == 0)
  }
}
