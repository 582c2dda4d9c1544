"""The services that come with zoctools; entry points find them, nobody imports them."""
