import Glibc
import Testing

@testable import LossdPluginHost

@Suite struct CrashRecordsTests {
  private let text = """
    1700000000.000000005 SIGSEGV plugin tweedie 1.0, function tweedie_loss
    not a record
    1700000100.000000005 exit plugin tweedie 1.0, function tweedie_loss
    1700000200.000000005 SIGABRT plugin tweedie 1.1, function tweedie_loss
    99999999999999999999999.000000005 SIGSEGV plugin tweedie 1.0, function tweedie_loss
    1700000300.000000005 SIGSEGV plugin tweedie_two 1.0, function f
    """

  @Test("the last crash of just this version, when its file is older")
  func last() {
    let records = CrashRecords(text)
    let found = records.last(
      plugin: "tweedie", version: "1.0", fileChanged: 1_600_000_000_000_000_000)
    #expect(found?.what == "exit")
    #expect(found?.time == 1_700_000_100_000_000_005)
    #expect(found?.place == "plugin tweedie 1.0, function tweedie_loss")
    #expect(
      records.last(plugin: "tweedie", version: "1.0", fileChanged: 1_700_000_100_000_000_006)
        == nil)
    #expect(records.last(plugin: "tweedie", version: "1", fileChanged: 0) == nil)
    #expect(records.last(plugin: "tweedi", version: "1.0", fileChanged: 0) == nil)
  }

  @Test("anything else in the file is no record")
  func garbage() {
    for text in [
      "", "\n\n", "\0\u{FF}", "1 2", "x SIGSEGV plugin tweedie 1.0, f", "1700000000",
      "1 SIGSEGV plugin tweedie 1.0, f", "1.5 SIGSEGV plugin tweedie 1.0, f",
      "-1.000000000 SIGSEGV plugin a 1, f",
    ] {
      #expect(CrashRecords(text).records.isEmpty, "\(text)")
    }
  }

  @Test("of a file that has grown large the end counts, whole lines of it")
  func large() throws {
    let path = "/tmp/lossd-crashes-\(getpid())"
    defer { unlink(path) }
    let file = try #require(fopen(path, "w"))
    for index in 0..<40_000 {
      fputs("\(index + 1).000000000 SIGSEGV plugin old 1.0, function f\n", file)
    }
    fputs("50000.000000000 SIGBUS plugin new 2.0, function g\n", file)
    fclose(file)
    let records = CrashRecords(file: path)
    #expect(records.last(plugin: "new", version: "2.0", fileChanged: 0)?.what == "SIGBUS")
    #expect(records.last(plugin: "old", version: "1.0", fileChanged: 0)?.time == 40_000_000_000_000)
    #expect(records.records.count < 5000)
  }

  @Test("a link is not followed, and a file that is not there says nothing")
  func link() {
    let path = "/tmp/lossd-crash-link-\(getpid())"
    defer { unlink(path) }
    symlink("/etc/passwd", path)
    #expect(CrashRecords(file: path).records.isEmpty)
    #expect(CrashRecords(file: "/nowhere/at/all").records.isEmpty)
    #expect(CrashRecords(file: "").records.isEmpty)
  }
}
